// Stand-in for OmnichannelMessaging, with the observed behaviour of the stock library.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using Engine;
using OmnichannelProviders;
using OmnichannelProviders.Domain.Entities;
using OmnichannelProviders.MessageWorkers;
using Terrasoft.Core;
using Terrasoft.Core.Factories;

namespace OmnichannelMessaging.Exceptions
{
	public class FileTooBigException : Exception
	{
	}
}

namespace OmnichannelMessaging.Utilities
{
	public interface IOmnichannelMessageFileLoader
	{
		void UploadFile(MessageAttachment attachment, MemoryStream stream);
		bool IsFileApiEnabled();
	}
}

namespace OmnichannelMessaging
{
	public class MessageManager
	{
		private readonly UserConnection _connection;
		private readonly Dictionary<string, IOutcomeMessageWorker> _workers = new Dictionary<string, IOutcomeMessageWorker>();

		public MessageManager(UserConnection userConnection) {
			_connection = userConnection;
		}

		private ConstructorArgument Argument {
			get { return new ConstructorArgument("userConnection", _connection); }
		}

		private IOutcomeMessageWorker Worker(string messenger) {
			IOutcomeMessageWorker worker;
			if (!_workers.TryGetValue(messenger, out worker)) {
				_workers[messenger] = worker = ClassFactory.Get<IOutcomeMessageWorker>(messenger, Argument);
			}
			return worker;
		}

		/// <summary>No transaction; the primary key is the only check for duplicates.</summary>
		public void Receive(UnifiedMessage message, string messenger) {
			if (message.ChatId == null || message.ChannelId == null) {
				throw new ArgumentNullException("ChatId");
			}
			if (message.MessageType != MessageType.Text) {
				foreach (MessageAttachment attachment in message.Attachments) {
					ClassFactory.Get<IAttachmentsLoadWorker>(messenger, Argument).Load(attachment, message);
				}
			}
			Points.Reach("beforeMessage");
			Store(message);
			Points.Reach("afterMessage");
		}

		/// <summary>The worker first, then the row, and only where the worker has succeeded.</summary>
		public string Send(UnifiedMessage message, string messenger) {
			bool success;
			string answer = Worker(messenger).SendMessage(message, out success);
			Points.Reach("betweenWorkerAndRow");
			if (success) {
				Store(message);
				Points.Reach("afterMessage");
			}
			return answer;
		}

		public void AddSystemMessage(UnifiedMessage message) {
			Store(message);
		}

		public string PassControlToBot(UnifiedMessage message, string messenger) {
			return Worker(messenger).PassControlToPrimaryReceiver(message);
		}

		private static void Store(UnifiedMessage message) {
			if (message.Id == Guid.Empty) {
				message.Id = Guid.NewGuid();
			}
			var attachments = (message.Attachments ?? new List<MessageAttachment>()).Select(file => new Dictionary<string, object> {
				{ "fileName", file.FileName }, { "fileId", file.FileId }, { "fileType", (int)file.FileType }
			}).ToList();
			Database.Statement(() => {
				Database.Insert("OmnichannelMessages", new Dictionary<string, object> {
					{ "Id", message.Id },
					{ "CreatedOn", DateTime.UtcNow },
					{ "Timestamp", message.Timestamp },
					{ "Sender", message.Sender },
					{ "Recipient", message.Recipient },
					{ "Source", (int)message.Source },
					{ "ChatId", new Guid(message.ChatId) },
					{ "ChannelId", new Guid(message.ChannelId) },
					{ "Message", message.Message },
					{ "MessageDirection", (int)message.MessageDirection },
					{ "MessageType", (int)message.MessageType },
					{ "Attachments", attachments.Count == 0 ? null : Json.Write(attachments) },
					{ "IsBotMessage", message.IsEcho },
					{ "IsStandBy", message.IsStandBy }
				});
				return 0;
			});
		}

		public IEnumerable<UnifiedMessage> GetMessagesByChatId(Guid chatId) {
			return GetMessagesByChatId(new[] { chatId });
		}

		/// <summary>Read anew by each enumeration, ordered by time.</summary>
		public IEnumerable<UnifiedMessage> GetMessagesByChatId(IEnumerable<Guid> chatIds) {
			var chats = new HashSet<Guid>(chatIds);
			foreach (Row row in Database.Read("OmnichannelMessages").Where(row => chats.Contains(row.Guid("ChatId")))
					.OrderBy(row => (long)row.Get("Timestamp"))) {
				yield return new UnifiedMessage {
					Id = row.Id,
					Timestamp = (long)row.Get("Timestamp"),
					Sender = row.Text("Sender"),
					Recipient = row.Text("Recipient"),
					Source = (ChannelType)(int)row.Get("Source"),
					ChatId = row.Guid("ChatId").ToString(),
					ChannelId = row.Guid("ChannelId").ToString(),
					Message = row.Text("Message"),
					MessageDirection = (MessageDirection)(int)row.Get("MessageDirection"),
					MessageType = (MessageType)(int)row.Get("MessageType"),
					IsEcho = (bool)row.Get("IsBotMessage"),
					IsStandBy = (bool)row.Get("IsStandBy")
				};
			}
		}

		public void UpdateChatIdInMessagesByChats(IEnumerable<Guid> chats, Guid chatId) {
			var all = new HashSet<Guid>(chats);
			Database.Statement(() => {
				foreach (Row row in Database.Rows("OmnichannelMessages").Where(row => all.Contains(row.Guid("ChatId")))) {
					Database.Change_("OmnichannelMessages", row, new Dictionary<string, object> { { "ChatId", chatId } });
				}
				return 0;
			});
		}
	}
}
