namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Text;
	using global::OmnichannelProviders;
	using global::OmnichannelProviders.Domain.Entities;
	using global::OmnichannelProviders.Interfaces;
	using global::OmnichannelProviders.MessageWorkers;
	using Terrasoft.Core;
	using Terrasoft.Core.Factories;
	using Column = Terrasoft.Core.DB.Column;
	using MessageType = global::OmnichannelProviders.Domain.Entities.MessageType;
	using Update = Terrasoft.Core.DB.Update;

	/// <summary>
	/// Takes what an agent sends. The stock code calls it before it stores the message, and judges the outcome by the word
	/// "error" in the answer: a refusal must contain it, a success must not.
	/// </summary>
	[DefaultBinding(typeof(IOutcomeMessageWorker), Name = MaxNames.Messenger)]
	public class MaxOutcomeWorker : IOutcomeMessageWorker
	{
		private readonly UserConnection _connection;

		public MaxOutcomeWorker(UserConnection userConnection) {
			_connection = userConnection;
		}

		public string SendMessage(UnifiedMessage unifiedMessage, out bool success) {
			success = false;
			try {
				Write(unifiedMessage);
				success = true;
				return "ok";
			} catch (Exception error) {
				MaxLog.Error("An agent's message in the chat " + unifiedMessage.ChatId + " was not taken.", error);
				return "error: " + error.Message;
			}
		}

		public string PassControlToPrimaryReceiver(UnifiedMessage message) {
			return "ok";
		}

		private void Write(UnifiedMessage message) {
			if (message.Id == Guid.Empty) {
				// The library stores the id that it finds here.
				message.Id = Guid.NewGuid();
			}
			Guid channelId = new Guid(message.ChannelId);
			Guid chatId = new Guid(message.ChatId);
			MaxChannelRow channel = MaxDatabase.ChannelById(_connection, channelId);
			if (channel == null) {
				throw new InvalidOperationException("The channel is not one of MAX: " + message.ChannelId);
			}
			Guid agent = _connection.CurrentUser.Id;
			new MaxOutboxWriter(_connection).Write(new MaxOutboxRow {
				Kind = MaxNames.KindMessage,
				ChannelSource = channel.Source,
				ChatId = chatId,
				Recipient = Recipient(message, chatId),
				AgentId = agent,
				AgentName = MaxDatabase.UserName(_connection, agent),
				MessageId = message.Id,
				MessageType = MaxWords.OfType(message.MessageType),
				Text = message.Message ?? "",
				Files = Files(message)
			});
		}

		/// <summary>
		/// The agent's page makes its answers from the first message of the chat, whatever that was: only an id of a
		/// customer is believed, else the chat itself is asked.
		/// </summary>
		private string Recipient(UnifiedMessage message, Guid chatId) {
			string given = message.Recipient ?? "";
			if (given.StartsWith(MaxNames.CustomerPrefix, StringComparison.Ordinal)) {
				return given;
			}
			MaxChatRow chat = MaxDatabase.Chat(_connection, chatId);
			string customer = chat == null ? "" : MaxDatabase.Customer(_connection, chat);
			if (customer.Length == 0) {
				throw new InvalidOperationException("The customer of the chat is not known: " + message.ChatId);
			}
			return customer;
		}

		/// <summary>Sizes come from the content: the library leaves FileSize at zero.</summary>
		private static string Files(UnifiedMessage message) {
			if (message.MessageType == MessageType.Text || message.Attachments == null || message.Attachments.Count == 0) {
				return "";
			}
			var json = new StringBuilder("[");
			foreach (MessageAttachment file in message.Attachments) {
				if (json.Length > 1) {
					json.Append(',');
				}
				long size = file.Content == null ? file.FileSize : file.Content.Length;
				json.Append("{\"id\":").Append(MaxJson.Text((file.FileId ?? "").ToLowerInvariant()))
					.Append(",\"name\":").Append(MaxJson.Text(file.FileName))
					.Append(",\"mimeType\":").Append(MaxJson.Text(file.MimeType))
					.Append(",\"size\":").Append(size)
					.Append(",\"type\":").Append(MaxJson.Text(MaxWords.OfType(file.FileType))).Append('}');
			}
			return json.Append(']').ToString();
		}
	}

	/// <summary>Names a customer of whom the relay knows no name; never asks anybody.</summary>
	[DefaultBinding(typeof(IProfileDataProvider), Name = MaxNames.Messenger)]
	public class MaxProfileDataProvider : IProfileDataProvider
	{
		public MaxProfileDataProvider(UserConnection userConnection) {
		}

		public ProfileData GetProfileDataByProfileId(string profileId, string channelId) {
			// Two words: the stock code joins them with a space, and a missing one would leave it trailing.
			return new ProfileData { Id = profileId, FirstName = "MAX", LastName = MaxWords.CustomerNumber(profileId) };
		}
	}

	/// <summary>A file of a customer was stored by "file" beforehand; here it becomes part of its message.</summary>
	[DefaultBinding(typeof(IAttachmentsLoadWorker), Name = MaxNames.Messenger)]
	public class MaxAttachmentLoadWorker : IAttachmentsLoadWorker
	{
		private readonly UserConnection _connection;

		public MaxAttachmentLoadWorker(UserConnection userConnection) {
			_connection = userConnection;
		}

		public void Load(MessageAttachment incomeAttachment, UnifiedMessage message) {
			incomeAttachment.MessageId = message.Id;
			var update = new Update(_connection, "OmnichannelMessageFile")
				.Set("MessageId", Column.Parameter(message.Id))
				.Where("Id").IsEqual(Column.Parameter(new Guid(incomeAttachment.FileId))) as Update;
			if (update.Execute() == 0) {
				throw new InvalidOperationException("The file is not stored: " + incomeAttachment.FileId);
			}
		}
	}

	/// <summary>Words of the contract for values of the library.</summary>
	public static class MaxWords
	{
		public static string OfType(MessageType type) {
			switch (type) {
				case MessageType.Text:
					return "text";
				case MessageType.Image:
					return "image";
				case MessageType.Audio:
					return "audio";
				case MessageType.Video:
					return "video";
				default:
					return "file";
			}
		}

		/// <summary>False where the word is none of the contract.</summary>
		public static bool ToType(string word, out MessageType type) {
			type = MessageType.Text;
			switch (word) {
				case "text":
					return true;
				case "file":
					type = MessageType.File;
					return true;
				case "image":
					type = MessageType.Image;
					return true;
				case "audio":
					type = MessageType.Audio;
					return true;
				case "video":
					type = MessageType.Video;
					return true;
				default:
					return false;
			}
		}

		public static string CustomerNumber(string customer) {
			return customer != null && customer.StartsWith(MaxNames.CustomerPrefix, StringComparison.Ordinal)
				? customer.Substring(MaxNames.CustomerPrefix.Length)
				: customer ?? "";
		}
	}
}
