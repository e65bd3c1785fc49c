namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Collections.Generic;
	using System.Data;
	using System.Security.Cryptography;
	using System.Text;
	using global::OmnichannelMessaging;
	using global::OmnichannelProviders.Domain.Entities;
	using Terrasoft.Common;
	using Terrasoft.Core;
	using Column = Terrasoft.Core.DB.Column;
	using Select = Terrasoft.Core.DB.Select;

	/// <summary>A channel of this package's provider.</summary>
	public class MaxChannelRow
	{
		public Guid Id;
		public string Source;
		public bool IsActive;
		public Guid SettingsId;
	}

	/// <summary>What the package reads of a chat.</summary>
	public class MaxChatRow
	{
		public Guid Id;
		public Guid StatusId;
		public Guid ChannelId;
		public Guid ContactId;
		public Guid OperatorId;
		public Guid ParentId;
	}

	/// <summary>
	/// Reads of stock tables, one method each. Plain queries: they ask for no rights of the agent or of the technical user.
	/// </summary>
	public static class MaxDatabase
	{
		private static readonly Guid Namespace = new Guid("bab06c62-a577-5588-8533-7dd877152375");

		/// <summary>UUIDv5 in the namespace of the contract.</summary>
		public static Guid NamedId(string name) {
			byte[] space = Namespace.ToByteArray();
			SwapOrder(space);
			byte[] text = Encoding.UTF8.GetBytes(name);
			byte[] all = new byte[space.Length + text.Length];
			space.CopyTo(all, 0);
			text.CopyTo(all, space.Length);
			byte[] hash;
			using (SHA1 algorithm = SHA1.Create()) {
				hash = algorithm.ComputeHash(all);
			}
			byte[] id = new byte[16];
			Array.Copy(hash, id, 16);
			id[6] = (byte)((id[6] & 0x0f) | 0x50);
			id[8] = (byte)((id[8] & 0x3f) | 0x80);
			SwapOrder(id);
			return new Guid(id);
		}

		private static void SwapOrder(byte[] id) {
			Array.Reverse(id, 0, 4);
			Array.Reverse(id, 4, 2);
			Array.Reverse(id, 6, 2);
		}

		private static MaxChannelRow ReadChannel(Select select) {
			MaxChannelRow found = null;
			select.ExecuteReader(reader => {
				if (reader.GetColumnValue<Guid>("ProviderId") != MaxNames.Provider) {
					return;
				}
				var row = new MaxChannelRow {
					Id = reader.GetColumnValue<Guid>("Id"),
					Source = reader.GetColumnValue<string>("Source"),
					IsActive = reader.GetColumnValue<bool>("IsActive"),
					SettingsId = reader.GetColumnValue<Guid>("MsgSettingsId")
				};
				if (found == null || (row.IsActive && !found.IsActive)) {
					found = row;
				}
			});
			return found;
		}

		private static Select ChannelColumns(UserConnection connection) {
			return new Select(connection)
				.Column("Id").Column("ProviderId").Column("Source").Column("IsActive").Column("MsgSettingsId")
				.From("Channel") as Select;
		}

		/// <summary>The channel with this source, an active one first; null where there is none.</summary>
		public static MaxChannelRow ChannelBySource(UserConnection connection, string source) {
			return ReadChannel(ChannelColumns(connection)
				.Where("Source").IsEqual(Column.Parameter(source)) as Select);
		}

		/// <summary>Null where the channel belongs to another provider.</summary>
		public static MaxChannelRow ChannelById(UserConnection connection, Guid channelId) {
			return ReadChannel(ChannelColumns(connection)
				.Where("Id").IsEqual(Column.Parameter(channelId)) as Select);
		}

		private static List<MaxChatRow> ReadChats(Select select) {
			var chats = new List<MaxChatRow>();
			select.ExecuteReader(reader => chats.Add(new MaxChatRow {
				Id = reader.GetColumnValue<Guid>("Id"),
				StatusId = reader.GetColumnValue<Guid>("StatusId"),
				ChannelId = reader.GetColumnValue<Guid>("ChannelId"),
				ContactId = reader.GetColumnValue<Guid>("ContactId"),
				OperatorId = reader.GetColumnValue<Guid>("OperatorId"),
				ParentId = reader.GetColumnValue<Guid>("ParentId")
			}));
			return chats;
		}

		private static Select ChatColumns(UserConnection connection) {
			return new Select(connection)
				.Column("Id").Column("StatusId").Column("ChannelId").Column("ContactId").Column("OperatorId")
				.Column("ParentId")
				.From("OmniChat") as Select;
		}

		public static MaxChatRow Chat(UserConnection connection, Guid chatId) {
			List<MaxChatRow> chats = ReadChats(ChatColumns(connection)
				.Where("Id").IsEqual(Column.Parameter(chatId)) as Select);
			return chats.Count == 0 ? null : chats[0];
		}

		/// <summary>The contact's chats in the channel, the newest first.</summary>
		public static List<MaxChatRow> Chats(UserConnection connection, Guid channelId, Guid contactId) {
			List<MaxChatRow> chats = ReadChats(ChatColumns(connection)
				.Where("ChannelId").IsEqual(Column.Parameter(channelId))
				.And("ContactId").IsEqual(Column.Parameter(contactId))
				.OrderByAsc("CreatedOn") as Select);
			chats.Reverse();
			return chats;
		}

		public static bool HasChild(UserConnection connection, Guid chatId) {
			return ReadChats(ChatColumns(connection)
				.Where("ParentId").IsEqual(Column.Parameter(chatId)) as Select).Count > 0;
		}

		/// <summary>The newest open chat of the contact; null where there is none.</summary>
		public static MaxChatRow OpenChat(UserConnection connection, Guid channelId, Guid contactId) {
			return Chats(connection, channelId, contactId).Find(chat => MaxNames.IsOpen(chat.StatusId));
		}

		/// <summary>
		/// The contact of a customer: the stock code looks in all channels and takes the first; an entry of this channel is
		/// better.
		/// </summary>
		public static Guid Contact(UserConnection connection, Guid channelId, string customer) {
			Guid contact = Guid.Empty;
			bool own = false;
			var select = new Select(connection)
				.Column("ContactId").Column("ChannelId")
				.From("ContactIdentity")
				.Where("ChannelIdentity").IsEqual(Column.Parameter(customer)) as Select;
			select.ExecuteReader(reader => {
				bool ofChannel = reader.GetColumnValue<Guid>("ChannelId") == channelId;
				if (contact == Guid.Empty || (ofChannel && !own)) {
					contact = reader.GetColumnValue<Guid>("ContactId");
					own = ofChannel;
				}
			});
			return contact;
		}

		/// <summary>
		/// The customer behind a chat, "" where nobody is known. A contact may have several identities (two people merged, or
		/// one with two accounts), so who wrote in the chat counts, or in its parent, of which a child has the messages later.
		/// </summary>
		public static string Customer(UserConnection connection, MaxChatRow chat) {
			string customer = Writer(connection, chat.Id);
			if (customer.Length == 0) {
				customer = Writer(connection, chat.ParentId);
			}
			return customer.Length > 0 ? customer : Identity(connection, chat.ChannelId, chat.ContactId);
		}

		/// <summary>The customer who wrote last in the chat, else the last to whom was written.</summary>
		private static string Writer(UserConnection connection, Guid chatId) {
			string sender = "";
			string recipient = "";
			if (chatId == Guid.Empty) {
				return sender;
			}
			try {
				foreach (UnifiedMessage message in new MessageManager(connection).GetMessagesByChatId(chatId)) {
					if (IsCustomer(message.Sender)) {
						sender = message.Sender;
					} else if (IsCustomer(message.Recipient)) {
						recipient = message.Recipient;
					}
				}
			} catch (Exception error) {
				// Nearly every contact has one identity.
				MaxLog.Warn("The messages of the chat " + chatId + " were not read.", error);
				return "";
			}
			return sender.Length > 0 ? sender : recipient;
		}

		private static bool IsCustomer(string id) {
			return id != null && id.StartsWith(MaxNames.CustomerPrefix, StringComparison.Ordinal);
		}

		private static string Identity(UserConnection connection, Guid channelId, Guid contactId) {
			string customer = "";
			bool own = false;
			var select = new Select(connection)
				.Column("ChannelIdentity").Column("ChannelId")
				.From("ContactIdentity")
				.Where("ContactId").IsEqual(Column.Parameter(contactId)) as Select;
			select.ExecuteReader(reader => {
				string identity = reader.GetColumnValue<string>("ChannelIdentity") ?? "";
				bool ofChannel = reader.GetColumnValue<Guid>("ChannelId") == channelId;
				if (IsCustomer(identity) && (customer.Length == 0 || (ofChannel && !own))) {
					customer = identity;
					own = ofChannel;
				}
			});
			return customer;
		}

		/// <summary>The chat of a stored message; null where it is not stored.</summary>
		public static Guid? MessageChat(UserConnection connection, Guid messageId) {
			Guid? chat = null;
			var select = new Select(connection)
				.Column("ChatId")
				.From("OmnichannelMessages")
				.Where("Id").IsEqual(Column.Parameter(messageId)) as Select;
			select.ExecuteReader(reader => {
				Guid id;
				object value = reader["ChatId"];
				chat = Guid.TryParse(Convert.ToString(value), out id) ? id : Guid.Empty;
			});
			return chat;
		}

		/// <summary>The display name of a user: that of the contact, else the login; "" for nobody.</summary>
		public static string UserName(UserConnection connection, Guid userId) {
			if (userId == Guid.Empty) {
				return "";
			}
			string login = "";
			Guid contact = Guid.Empty;
			var select = new Select(connection)
				.Column("Name").Column("ContactId")
				.From("SysAdminUnit")
				.Where("Id").IsEqual(Column.Parameter(userId)) as Select;
			select.ExecuteReader(reader => {
				login = reader.GetColumnValue<string>("Name") ?? "";
				contact = reader.GetColumnValue<Guid>("ContactId");
			});
			string name = contact == Guid.Empty ? "" : Name(connection, "Contact", contact);
			return Cut(name.Length > 0 ? name : login, MaxNames.MediumText);
		}

		/// <summary>The column Name of a row, "" where there is none.</summary>
		public static string Name(UserConnection connection, string table, Guid id) {
			string name = "";
			var select = new Select(connection)
				.Column("Name")
				.From(table)
				.Where("Id").IsEqual(Column.Parameter(id)) as Select;
			select.ExecuteReader(reader => name = reader.GetColumnValue<string>("Name") ?? "");
			return name;
		}

		/// <summary>A text that fits a column; a pair of surrogates is not parted.</summary>
		public static string Cut(string text, int units) {
			if (text == null) {
				return "";
			}
			if (text.Length <= units) {
				return text;
			}
			return text.Substring(0, char.IsHighSurrogate(text[units - 1]) ? units - 1 : units);
		}

		/// <summary>Milliseconds since 1970, UTC.</summary>
		public static long Now() {
			return (long)(DateTime.UtcNow - new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc)).TotalMilliseconds;
		}
	}
}
