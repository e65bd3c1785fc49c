namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using global::OmnichannelMessaging;
	using Terrasoft.Configuration.Omnichannel.Messaging;
	using Terrasoft.Core;
	using Terrasoft.Core.Entities;
	using Terrasoft.Core.Entities.Events;
	using ChannelType = global::OmnichannelProviders.Domain.Entities.ChannelType;
	using Column = Terrasoft.Core.DB.Column;
	using MessageDirection = global::OmnichannelProviders.Domain.Entities.MessageDirection;
	using MessageType = global::OmnichannelProviders.Domain.Entities.MessageType;
	using Select = Terrasoft.Core.DB.Select;

	/// <summary>
	/// Tells the relay what agents do with chats: accepted, transferred, closed. A row that cannot be written never fails the
	/// agent's action: the relay looks at the chats themselves, too.
	/// </summary>
	[EntityEventListener(SchemaName = "OmniChat")]
	public class MaxChatListener : BaseEntityEventListener
	{
		public override void OnInserted(object sender, EntityAfterEventArgs e) {
			base.OnInserted(sender, e);
			Guarded((Entity)sender, Inserted);
		}

		public override void OnUpdated(object sender, EntityAfterEventArgs e) {
			base.OnUpdated(sender, e);
			Guarded((Entity)sender, chat => Updated(chat, e));
		}

		private static void Guarded(Entity chat, Action<Entity> work) {
			try {
				work(chat);
			} catch (Exception error) {
				MaxLog.Error("The relay was not told of a change of the chat " + chat.PrimaryColumnValue + ".", error);
			}
		}

		/// <summary>
		/// A child of a chat that had an agent is a transfer. The child of a bot's chat is a hand-over, of which the relay
		/// knows: it has asked for it.
		/// </summary>
		private static void Inserted(Entity chat) {
			Guid parentId = chat.GetTypedColumnValue<Guid>("ParentId");
			if (parentId == Guid.Empty) {
				return;
			}
			UserConnection connection = chat.UserConnection;
			MaxChannelRow channel = MaxDatabase.ChannelById(connection, chat.GetTypedColumnValue<Guid>("ChannelId"));
			if (channel == null) {
				return;
			}
			MaxChatRow parent = MaxDatabase.Chat(connection, parentId);
			if (parent == null || parent.OperatorId == Guid.Empty) {
				return;
			}
			Write(chat, channel, MaxNames.KindTransferred, chat.GetTypedColumnValue<Guid>("OperatorId"), parentId, "");
		}

		private static void Updated(Entity chat, EntityAfterEventArgs e) {
			Guid oldStatus;
			Guid newStatus;
			Guid oldAgent;
			Guid agent;
			bool statusChanged = Change(e, "StatusId", out oldStatus, out newStatus);
			bool agentChanged = Change(e, "OperatorId", out oldAgent, out agent);
			bool accepted = agentChanged && agent != Guid.Empty;
			bool ended = statusChanged && (newStatus == MaxNames.Completed || newStatus == MaxNames.CompletedByBot);
			if (!accepted && !ended) {
				return;
			}
			UserConnection connection = chat.UserConnection;
			MaxChannelRow channel = MaxDatabase.ChannelById(connection, chat.GetTypedColumnValue<Guid>("ChannelId"));
			if (channel == null) {
				return;
			}
			if (accepted) {
				Write(chat, channel, MaxNames.KindAccepted, agent, Guid.Empty, "");
			}
			if (ended && IsClosing(connection, chat.PrimaryColumnValue, oldStatus, newStatus)) {
				Guid lastAgent = chat.GetTypedColumnValue<Guid>("OperatorId");
				Write(chat, channel, MaxNames.KindClosed, lastAgent, Guid.Empty, Reason(connection, lastAgent));
			}
		}

		/// <summary>
		/// 8.1 completes a bot's chat also where it hands it over, and only then makes the child; such a chat is closed by
		/// nobody but the relay, which does not need to be told. 8.2 has a status of its own for it. A transfer makes the
		/// child first.
		/// </summary>
		private static bool IsClosing(UserConnection connection, Guid chatId, Guid oldStatus, Guid newStatus) {
			if (!MaxNames.IsOpen(oldStatus)) {
				return false;
			}
			if (oldStatus == MaxNames.BotProcessing && newStatus == MaxNames.Completed) {
				return false;
			}
			return !MaxDatabase.HasChild(connection, chatId);
		}

		private static bool Change(EntityAfterEventArgs e, string name, out Guid before, out Guid now) {
			before = Guid.Empty;
			now = Guid.Empty;
			foreach (EntityColumnValue value in e.ModifiedColumnValues) {
				if (value.Name == name) {
					before = value.OldValue is Guid ? (Guid)value.OldValue : Guid.Empty;
					now = value.Value is Guid ? (Guid)value.Value : Guid.Empty;
					return before != now;
				}
			}
			return false;
		}

		/// <summary>By who saves: the site's own job, the user that calls our service, else a person.</summary>
		private static string Reason(UserConnection connection, Guid agent) {
			Guid user = connection.CurrentUser.Id;
			if (user == agent) {
				return MaxNames.ReasonAgent;
			}
			if (user == connection.AppConnection.SystemUserConnection.CurrentUser.Id) {
				return MaxNames.ReasonTimeout;
			}
			return IsRelay(connection, user) ? MaxNames.ReasonRelay : MaxNames.ReasonAgent;
		}

		private static bool IsRelay(UserConnection connection, Guid user) {
			bool found = false;
			var select = new Select(connection).Top(1)
				.Column("Id")
				.From(MaxNames.Sender)
				.Where("UserId").IsEqual(Column.Parameter(user)) as Select;
			select.ExecuteReader(reader => found = true);
			return found;
		}

		private static void Write(Entity chat, MaxChannelRow channel, string kind, Guid agent, Guid parent, string reason) {
			UserConnection connection = chat.UserConnection;
			string customer = MaxDatabase.Customer(connection, new MaxChatRow {
				Id = chat.PrimaryColumnValue,
				ChannelId = channel.Id,
				ContactId = chat.GetTypedColumnValue<Guid>("ContactId"),
				ParentId = chat.GetTypedColumnValue<Guid>("ParentId")
			});
			if (customer.Length == 0 || customer.Length > MaxNames.ShortText) {
				MaxLog.Warn("The customer of the chat " + chat.PrimaryColumnValue + " is not known.", null);
				return;
			}
			new MaxOutboxWriter(connection).Write(new MaxOutboxRow {
				Kind = kind,
				ChannelSource = channel.Source,
				ChatId = chat.PrimaryColumnValue,
				ParentChatId = parent,
				Recipient = customer,
				AgentId = agent,
				AgentName = MaxDatabase.UserName(connection, agent),
				Reason = reason
			});
		}
	}

	/// <summary>
	/// The relay's report on a row: only State and Error. What went wrong, or was put right, is shown to the agent as a
	/// system line.
	/// </summary>
	[EntityEventListener(SchemaName = MaxNames.Outbox)]
	public class MaxOutboxListener : BaseEntityEventListener
	{
		public override void OnUpdating(object sender, EntityBeforeEventArgs e) {
			base.OnUpdating(sender, e);
			var row = (Entity)sender;
			foreach (EntityColumnValue value in row.GetChangedColumnValues()) {
				string name = value.Name;
				if (name != "State" && name != "Error" && name != "ModifiedOn" && name != "ModifiedById") {
					throw new InvalidOperationException("Only State and Error of an outbox row can be changed, not " + name + ".");
				}
			}
			string before = row.GetTypedOldColumnValue<string>("State") ?? "";
			string now = row.GetTypedColumnValue<string>("State") ?? "";
			if (!CanBecome(before, now)) {
				throw new InvalidOperationException("An outbox row does not go from " + before + " to " + now + ".");
			}
			string error = row.GetTypedColumnValue<string>("Error") ?? "";
			if (error.Length > MaxNames.MediumText) {
				throw new InvalidOperationException("Error is longer than " + MaxNames.MediumText + ".");
			}
		}

		public override void OnUpdated(object sender, EntityAfterEventArgs e) {
			base.OnUpdated(sender, e);
			var row = (Entity)sender;
			string before = null;
			string now = null;
			foreach (EntityColumnValue value in e.ModifiedColumnValues) {
				if (value.Name == "State") {
					before = value.OldValue as string;
					now = value.Value as string;
				}
			}
			if (now == null || now == before) {
				return;
			}
			try {
				Show(row, before ?? "", now);
			} catch (Exception error) {
				// The report itself stands.
				MaxLog.Error("The agent was not told of the outbox row " + row.PrimaryColumnValue + ".", error);
			}
			MaxCleanup.Now(row.UserConnection);
		}

		/// <summary>
		/// An administrator may have a message sent again that was not delivered, and that attempt ends in its own way; what
		/// is delivered stays so.
		/// </summary>
		private static bool CanBecome(string before, string now) {
			if (before == now) {
				return true;
			}
			bool isOpen = before == MaxNames.Pending || before == MaxNames.Failed || before == MaxNames.Uncertain;
			return isOpen && (now == MaxNames.Delivered || now == MaxNames.Failed || now == MaxNames.Uncertain);
		}

		private static void Show(Entity row, string before, string now) {
			if (now == MaxNames.Delivered && before == MaxNames.Pending) {
				return;
			}
			UserConnection connection = row.UserConnection;
			Guid agent = row.GetTypedColumnValue<Guid>("AgentId");
			string why = row.GetTypedColumnValue<string>("Error") ?? "";
			bool russian = MaxText.IsRussian(connection, agent);
			string text;
			if (now == MaxNames.Failed) {
				text = MaxText.NotDelivered(russian, why);
			} else if (now == MaxNames.Uncertain) {
				text = MaxText.Uncertain(russian, why);
			} else {
				text = MaxText.DeliveredAfterAll(russian);
			}
			Guid chatId = row.GetTypedColumnValue<Guid>("ChatId");
			MaxChatRow chat = MaxDatabase.Chat(connection, chatId);
			if (chat == null) {
				return;
			}
			Line(connection, chat, row, text);
			Notify(connection, chat, agent, text);
		}

		private static void Line(UserConnection connection, MaxChatRow chat, Entity row, string text) {
			new MessageManager(connection).AddSystemMessage(new MessagingMessage {
				Id = Guid.NewGuid(),
				Message = text,
				ChatId = chat.Id.ToString(),
				ChannelId = chat.ChannelId.ToString(),
				Source = ChannelType.ThirdParty,
				Sender = row.GetTypedColumnValue<string>("ChannelSource"),
				Recipient = row.GetTypedColumnValue<string>("Recipient"),
				MessageType = MessageType.System,
				MessageDirection = MessageDirection.Outcoming,
				Timestamp = MaxDatabase.Now()
			});
		}

		/// <summary>The line at once on the agent's screen; without it he sees it when he opens the chat again.</summary>
		private static void Notify(UserConnection connection, MaxChatRow chat, Guid agent, string text) {
			Guid reader = chat.OperatorId == Guid.Empty ? agent : chat.OperatorId;
			if (reader == Guid.Empty) {
				return;
			}
			new ChatOperatorNotifier(connection).NewSystemMessageNotify(reader, chat.Id, new ChatMessage {
				Text = text,
				Type = MessageType.System,
				Time = DateTime.UtcNow.ToString("yyyy-MM-ddTHH:mm:ss", System.Globalization.CultureInfo.InvariantCulture),
				Author = new ChatContact { Id = reader },
				Direction = MessageDirection.Outcoming
			});
		}
	}
}
