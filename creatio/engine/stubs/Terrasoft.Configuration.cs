// Stand-in for the chat code in Terrasoft.Configuration, by its observed behaviour; 8.1 and 8.2 by Switches.Is82.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using Engine;
using OmnichannelMessaging;
using OmnichannelMessaging.Utilities;
using OmnichannelProviders.Domain.Entities;
using OmnichannelProviders.Interfaces;
using Terrasoft.Common;
using Terrasoft.Core;
using Terrasoft.Core.Entities;
using Terrasoft.Core.Factories;
using Terrasoft.Web.Common;

[assembly: InternalsVisibleTo("engine")]

namespace Terrasoft.Configuration.Omnichannel.Messaging
{
	internal static class Status
	{
		public static readonly Guid Waiting = new Guid("79bccffa-8c8b-4863-b376-a69d2244182b");
		public static readonly Guid InProgress = new Guid("81737bdd-60c7-4ef7-bb75-52c53d5c38c1");
		public static readonly Guid Completed = new Guid("a1b0184b-0a54-4a47-ba08-a5772105d3b2");
		public static readonly Guid BotProcessing = new Guid("b05fbf72-69ed-41a7-be7c-af3ec13b08c7");
		public static readonly Guid CompletedByBot = new Guid("8e7cc4aa-261b-4f62-9c7b-7d7f1e68c86a");
		public static readonly Guid HandedOverToAgent = new Guid("179601ae-58d9-425d-880b-fa4b3aace644");

		public static bool IsOver(Guid status) {
			return status == Completed || (Switches.Is82 && (status == CompletedByBot || status == HandedOverToAgent));
		}
	}

	[Serializable]
	public class MessagingMessage : UnifiedMessage
	{
		private string _channelName;

		public string ChannelName {
			get { return string.IsNullOrEmpty(_channelName) ? Source.ToString() : _channelName; }
			set { _channelName = value; }
		}

		public Guid? ContactId { get; set; }
		public Guid ChannelQueueId { get; set; }

		public string SenderIfEcho {
			get { return IsEcho ? Recipient : Sender; }
		}
	}

	public class ChatContact
	{
		public Guid Id;
		public string Name;
	}

	public class ChatMessage
	{
		public string Text;
		public MessageType Type;
		public string Time;
		public ChatContact Author;
		public MessageDirection Direction;
	}

	public class ChatOperatorNotifier
	{
		public ChatOperatorNotifier(UserConnection userConnection) {
		}

		public virtual void NewSystemMessageNotify(Guid operatorId, Guid chatId, ChatMessage message) {
		}

		public virtual void NewConversationMessageNotify(UnifiedMessage message) {
		}

		public virtual void NewConversationMessageNotify(MessagingMessage message) {
		}
	}

	/// <summary>The lock on a chat: a key in the cache, not atomic, released by whoever comes along.</summary>
	public class ChatLocksRepository
	{
		private readonly UserConnection _connection;

		public ChatLocksRepository(UserConnection userConnection) {
			_connection = userConnection;
		}

		internal void TryLockChat(string channelId, string sender, out bool isAcquired) {
			string key = "Omni_ChatLock_" + channelId + "_" + sender;
			isAcquired = _connection.ApplicationCache[key] == null;
			if (isAcquired) {
				_connection.ApplicationCache[key] = true;
			}
		}

		internal void ReleaseChatLock(string channelId, string sender) {
			_connection.ApplicationCache.Remove("Omni_ChatLock_" + channelId + "_" + sender);
		}

		internal void EnqueueMessage(string channelId, string sender, object message) {
			string key = "Omni_ChatQueue_" + channelId + "_" + sender;
			var queue = _connection.ApplicationCache[key] as List<object> ?? new List<object>();
			queue.Add(message);
			_connection.ApplicationCache[key] = queue;
		}

		internal List<object> DequeueLockedChatsQueue(string channelId, string sender) {
			string key = "Omni_ChatQueue_" + channelId + "_" + sender;
			var queue = (List<object>)_connection.ApplicationCache[key];
			if (queue != null) {
				_connection.ApplicationCache.Remove(key);
			}
			return queue;
		}
	}

	/// <summary>Finds or makes the contact of a customer.</summary>
	public class OmnichannelContactIdentifier
	{
		private readonly UserConnection _connection;

		public OmnichannelContactIdentifier(UserConnection userConnection) {
			_connection = userConnection;
		}

		public Guid? GetContactId(MessagingMessage message) {
			string sender = message.SenderIfEcho;
			Guid channel = new Guid(message.ChannelId);
			List<Row> identities = Database.Read("ContactIdentity").Where(row => row.Text("ChannelIdentity") == sender).ToList();
			Row known = identities.FirstOrDefault(row => row.Guid("ChannelId") == channel) ?? identities.FirstOrDefault();
			if (known != null) {
				if (known.Guid("ChannelId") != channel) {
					Identity(known.Guid("ContactId"), channel, sender);
				}
				return known.Guid("ContactId");
			}
			string name;
			string phone = "";
			if (message.ContactIdentification == null
					|| !message.ContactIdentification.TryGetValue(ContactIdentificationType.Name, out name)) {
				ProfileData profile = ClassFactory.Get<IProfileDataProvider>(message.ChannelName,
					new ConstructorArgument("userConnection", _connection)).GetProfileDataByProfileId(sender, message.ChannelId);
				name = profile.FirstName + " " + profile.LastName;
			}
			if (message.ContactIdentification != null) {
				message.ContactIdentification.TryGetValue(ContactIdentificationType.Phone, out phone);
			}
			Entity contact = _connection.EntitySchemaManager.GetInstanceByName("Contact").CreateEntity(_connection);
			contact.SetDefColumnValues();
			contact.SetColumnValue("Name", name);
			contact.SetColumnValue("MobilePhone", phone ?? "");
			contact.Save(false);
			try {
				Identity(contact.PrimaryColumnValue, channel, sender);
			} catch (DbOperationException) {
				contact.Delete();
				return Database.Read("ContactIdentity").First(row => row.Text("ChannelIdentity") == sender).Guid("ContactId");
			}
			return contact.PrimaryColumnValue;
		}

		private void Identity(Guid contact, Guid channel, string sender) {
			Entity identity = _connection.EntitySchemaManager.GetInstanceByName("ContactIdentity").CreateEntity(_connection);
			identity.SetDefColumnValues();
			identity.SetColumnValue("ContactId", contact);
			identity.SetColumnValue("ChannelId", channel);
			identity.SetColumnValue("ChannelIdentity", sender);
			identity.Save(false);
		}
	}

	/// <summary>Offers waiting chats: ForFree directs one to the least loaded agent of the queue, past the entity layer.</summary>
	public class ChatQueueDistributor
	{
		public ChatQueueDistributor(UserConnection userConnection) {
		}

		internal void DistributeQueueChatsByChatId(Guid chatId) {
			Database.Statement(() => {
				Row chat = Database.Rows("OmniChat").FirstOrDefault(row => row.Id == chatId);
				if (chat == null || chat.Guid("StatusId") != Status.Waiting || chat.Guid("DirectedOperatorId") != Guid.Empty) {
					return 0;
				}
				Row queue = Database.Find("ChatQueue", chat.Guid("QueueId"));
				Row rule = queue == null ? null : Database.Find("OperatorRoutingRules", queue.Guid("OperatorRoutingRuleId"));
				if (rule == null || rule.Text("Code") != "ForFree") {
					return 0;
				}
				Dictionary<Guid, int> loads = Database.Rows("OmniChat").Where(row => !Status.IsOver(row.Guid("StatusId")))
					.Select(row => row.Guid("OperatorId") == Guid.Empty ? row.Guid("DirectedOperatorId") : row.Guid("OperatorId"))
					.GroupBy(agent => agent).ToDictionary(group => group.Key, group => group.Count());
				int most = Convert.ToInt32(queue.Get("SimultaneousChats") ?? 0);
				Guid best = Database.Rows("ChatQueueOperator").Where(row => row.Guid("ChatQueueId") == queue.Id)
					.Select(row => row.Guid("OperatorId"))
					.Where(agent => most <= 0 || (loads.ContainsKey(agent) ? loads[agent] : 0) < most)
					.OrderBy(agent => loads.ContainsKey(agent) ? loads[agent] : 0).FirstOrDefault();
				if (best != Guid.Empty) {
					Database.Change_("OmniChat", chat, new Dictionary<string, object> { { "DirectedOperatorId", best } });
				}
				return 0;
			});
		}
	}

	public class ChatRepository
	{
		private readonly UserConnection _connection;
		private readonly MessageManager _messages;

		public ChatRepository(UserConnection userConnection) {
			_connection = userConnection;
			_messages = new MessageManager(userConnection);
		}

		internal Entity Chat(Guid id) {
			Entity chat = _connection.EntitySchemaManager.GetInstanceByName("OmniChat").CreateEntity(_connection);
			return chat.FetchFromDB(id) ? chat : null;
		}

		private Entity FindActiveChat(Guid channel, Guid? contact) {
			Row row = Database.Read("OmniChat").FirstOrDefault(one => one.Guid("ChannelId") == channel
				&& one.Guid("ContactId") == contact && !Status.IsOver(one.Guid("StatusId")));
			return row == null ? null : Chat(row.Id);
		}

		private static string Preview(MessagingMessage message) {
			return message.Attachments != null ? "File" : message.Message;
		}

		private static int Timeout(Guid queueId) {
			Row queue = Database.Find("ChatQueue", queueId);
			return queue == null ? 0 : Convert.ToInt32(queue.Get("ChatTimeout") ?? 0);
		}

		internal Entity Create(Guid channel, Guid contact, Guid queue, Guid status) {
			Entity chat = _connection.EntitySchemaManager.GetInstanceByName("OmniChat").CreateEntity(_connection);
			chat.SetDefColumnValues();
			chat.SetColumnValue("ContactId", contact);
			chat.SetColumnValue("ChannelId", channel);
			chat.SetColumnValue("QueueId", queue);
			chat.SetColumnValue("StatusId", status);
			chat.SetColumnValue("UnprocessedMsgCount", 1);
			return chat;
		}

		public Guid AddMessage(MessagingMessage message, out bool isNewChat) {
			Guid channel = new Guid(message.ChannelId);
			Entity chat = string.IsNullOrEmpty(message.ChatId)
				? FindActiveChat(channel, message.ContactId)
				: Chat(new Guid(message.ChatId));
			isNewChat = chat == null;
			if (chat == null) {
				Row row = Database.Find("Channel", channel);
				chat = Create(channel, message.ContactId.Value, row.Guid("ChatQueueId"),
					message.IsStandBy ? Status.BotProcessing : Status.Waiting);
				chat.SetColumnValue("ChatPreview", Preview(message));
				chat.SetColumnValue("LastMessageDirection", (int)message.MessageDirection);
				chat.Save(false);
				return chat.PrimaryColumnValue;
			}
			message.ChannelQueueId = chat.GetTypedColumnValue<Guid>("QueueId");
			bool isIncoming = message.MessageDirection == MessageDirection.Incoming;
			if (isIncoming) {
				chat.SetColumnValue("UnprocessedMsgCount", chat.GetTypedColumnValue<int>("UnprocessedMsgCount") + 1);
			}
			if (message.IsStandBy) {
				chat.SetColumnValue("CloseDate", DateTime.UtcNow.AddMinutes(60));
			} else if (isIncoming) {
				chat.SetColumnValue("CloseDate", null);
			} else if (Timeout(message.ChannelQueueId) >= 1) {
				chat.SetColumnValue("CloseDate", DateTime.UtcNow.AddMinutes(Timeout(message.ChannelQueueId)));
			}
			chat.SetColumnValue("ChatPreview", Preview(message));
			chat.SetColumnValue("LastMessageDirection", (int)message.MessageDirection);
			chat.Save(false);
			return chat.PrimaryColumnValue;
		}

		/// <summary>Empty where the agent may not write there.</summary>
		internal Guid AddOutcomingMessage(MessagingMessage message) {
			Entity chat = Chat(new Guid(message.ChatId));
			Guid user = _connection.CurrentUser.Id;
			if (!Status.IsOver(chat.GetTypedColumnValue<Guid>("StatusId"))) {
				if (chat.GetTypedColumnValue<Guid>("OperatorId") != user) {
					return Guid.Empty;
				}
				bool isNew;
				return AddMessage(message, out isNew);
			}
			Guid channel = chat.GetTypedColumnValue<Guid>("ChannelId");
			Guid contact = chat.GetTypedColumnValue<Guid>("ContactId");
			Entity open = FindActiveChat(channel, contact);
			if (open != null) {
				return open.GetTypedColumnValue<Guid>("OperatorId") == user ? open.PrimaryColumnValue : Guid.Empty;
			}
			Entity anew = Create(channel, contact, chat.GetTypedColumnValue<Guid>("QueueId"), Status.InProgress);
			anew.SetColumnValue("OperatorId", user);
			anew.SetColumnValue("UnprocessedMsgCount", 0);
			anew.Save(false);
			return anew.PrimaryColumnValue;
		}

		public List<Guid> GetBotProcessingChatIds(Guid channelId, string sender) {
			List<Guid> chats = Database.Read("OmniChat")
				.Where(row => row.Guid("ChannelId") == channelId && row.Guid("StatusId") == Status.BotProcessing)
				.Select(row => row.Id).ToList();
			return _messages.GetMessagesByChatId(chats).Where(message => message.Sender == sender)
				.Select(message => new Guid(message.ChatId)).Distinct().ToList();
		}

		internal void DeleteUnnecessaryChats(List<Guid> chats) {
			Database.Statement(() => {
				chats.ForEach(id => Database.Delete("OmniChat", Database.Find("OmniChat", id)));
				return 0;
			});
		}

		/// <summary>What completion writes; throws on a chat without messages, also in its parent.</summary>
		internal List<UnifiedMessage> Complete(Entity chat, Guid status) {
			Guid id = chat.PrimaryColumnValue;
			List<UnifiedMessage> messages = _messages.GetMessagesByChatId(id).ToList();
			foreach (UnifiedMessage message in messages.Where(one => one.MessageType == MessageType.Text)) {
				Database.Statement(() => {
					Database.Insert("ChatMessages", new Dictionary<string, object> {
						{ "OmniChatId", id }, { "Message", message.Message }, { "Sender", message.Sender },
						{ "Recipient", message.Recipient }, { "Timestamp", message.Timestamp.ToString() }
					});
					return 0;
				});
			}
			if (messages.Count == 0) {
				messages = _messages.GetMessagesByChatId(chat.GetTypedColumnValue<Guid>("ParentId")).ToList();
			}
			long start = messages.Min(message => message.Timestamp);
			chat.SetColumnValue("ChatStartDate", new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc).AddMilliseconds(start));
			chat.SetColumnValue("CompletionDate", DateTime.UtcNow);
			chat.SetColumnValue("StatusId", status);
			chat.Save(false);
			return messages;
		}

		public void CloseActiveChat(Guid chatId, bool createSystemMessage = false, bool isHandOver = false) {
			Entity chat = Chat(chatId);
			if (chat == null) {
				return;
			}
			Guid old = chat.GetTypedColumnValue<Guid>("StatusId");
			if (Status.IsOver(old)) {
				return;
			}
			Guid status = Switches.Is82 && old == Status.BotProcessing
				? (isHandOver ? Status.HandedOverToAgent : Status.CompletedByBot)
				: Status.Completed;
			List<UnifiedMessage> messages = Complete(chat, status);
			if (createSystemMessage && chat.GetTypedColumnValue<Guid>("OperatorId") != Guid.Empty) {
				SystemLine(chat, messages.Last(), "The chat was closed");
			}
			if (old == Status.InProgress) {
				// Throws in a chat of echoes only, after the status was saved.
				UnifiedMessage first = messages.First(message => !message.IsEcho);
				if (first.IsStandBy) {
					_messages.PassControlToBot(first, first.Source.ToString());
				}
			}
		}

		internal void SystemLine(Entity chat, UnifiedMessage like, string text) {
			_messages.AddSystemMessage(new MessagingMessage {
				Message = text, ChatId = chat.PrimaryColumnValue.ToString(), MessageType = MessageType.System,
				Timestamp = (DateTime.UtcNow.Ticks - 621355968000000000) / 10000, Sender = like.Sender, Recipient = like.Recipient,
				MessageDirection = MessageDirection.Outcoming, ChannelId = like.ChannelId, Source = like.Source
			});
		}

		public Guid CreateChildChat(Guid parentId, Dictionary<string, object> columns) {
			Entity parent = Chat(parentId);
			if (parent == null) {
				return Guid.Empty;
			}
			Entity child = Create(parent.GetTypedColumnValue<Guid>("ChannelId"), parent.GetTypedColumnValue<Guid>("ContactId"),
				parent.GetTypedColumnValue<Guid>("QueueId"), Status.Waiting);
			child.SetColumnValue("ParentId", parentId);
			child.SetColumnValue("ChatPreview", parent.GetTypedColumnValue<string>("ChatPreview"));
			foreach (var column in columns) {
				child.SetColumnValue(column.Key, column.Value);
			}
			child.Save(false);
			return child.PrimaryColumnValue;
		}

		/// <summary>The minute job.</summary>
		internal void CloseExpiredChats() {
			foreach (Row row in Database.Read("OmniChat").Where(row => row.Get("CloseDate") != null
					&& (DateTime)row.Get("CloseDate") <= DateTime.UtcNow && !Status.IsOver(row.Guid("StatusId"))
					&& row.Guid("StatusId") != Status.Waiting)) {
				CloseActiveChat(row.Id, true);
			}
		}
	}

	public class OmnichannelMessagingService : BaseService
	{
		private ChatRepository _chatRepository;
		private MessageManager _messageManager;

		public OmnichannelMessagingService() {
		}

		public OmnichannelMessagingService(UserConnection userConnection) : base(userConnection) {
		}

		public ChatRepository ChatRepository {
			get { return _chatRepository ?? (_chatRepository = new ChatRepository(UserConnection)); }
		}

		public ChatQueueDistributor ChatQueueDistributor {
			get { return new ChatQueueDistributor(UserConnection); }
		}

		public ChatOperatorNotifier OperatorNotifier {
			get { return new ChatOperatorNotifier(UserConnection); }
		}

		public OmnichannelContactIdentifier ContactIdentifier {
			get { return new OmnichannelContactIdentifier(UserConnection); }
		}

		protected MessageManager MessageManager {
			get { return _messageManager ?? (_messageManager = new MessageManager(UserConnection)); }
		}

		protected ChatLocksRepository ChatLocksRepository {
			get { return new ChatLocksRepository(UserConnection); }
		}

		private void AddMessage(MessagingMessage message) {
			bool isNewChat;
			message.ChatId = ChatRepository.AddMessage(message, out isNewChat).ToString();
			Points.Reach("betweenChatAndMessage");
			MessageManager.Receive(message, message.ChannelName);
			if (!message.IsStandBy) {
				ChatQueueDistributor.DistributeQueueChatsByChatId(new Guid(message.ChatId));
			}
		}

		private void Drain(string channelId, string sender) {
			for (var queue = ChatLocksRepository.DequeueLockedChatsQueue(channelId, sender); queue != null;
					queue = ChatLocksRepository.DequeueLockedChatsQueue(channelId, sender)) {
				foreach (object item in queue) {
					var message = item as MessagingMessage;
					if (message != null) {
						AddMessage(message);
					} else {
						TransferChatsToQueue((List<Guid>)item);
					}
				}
			}
			ChatLocksRepository.ReleaseChatLock(channelId, sender);
		}

		/// <summary>Swallows every failure; whoever did not get the lock drains and releases it all the same.</summary>
		private void Receive(MessagingMessage message) {
			try {
				message.ContactId = ContactIdentifier.GetContactId(message);
				bool isAcquired;
				ChatLocksRepository.TryLockChat(message.ChannelId, message.SenderIfEcho, out isAcquired);
				if (!isAcquired) {
					ChatLocksRepository.EnqueueMessage(message.ChannelId, message.SenderIfEcho, message);
					return;
				}
				AddMessage(message);
			} catch (Exception error) {
				Console.Error.WriteLine("The library swallows: " + error.Message);
			} finally {
				Drain(message.ChannelId, message.SenderIfEcho);
			}
		}

		private void Transfer(Guid channelId, string sender) {
			List<Guid> chats = ChatRepository.GetBotProcessingChatIds(channelId, sender);
			bool isAcquired;
			ChatLocksRepository.TryLockChat(channelId.ToString(), sender, out isAcquired);
			if (!isAcquired) {
				ChatLocksRepository.EnqueueMessage(channelId.ToString(), sender, chats);
				return;
			}
			TransferChatsToQueue(chats);
			Drain(channelId.ToString(), sender);
		}

		protected void TransferChatsToQueue(List<Guid> chats) {
			Guid chatId = chats.FirstOrDefault();
			if (chats.Count > 1) {
				MessageManager.UpdateChatIdInMessagesByChats(chats, chatId);
				ChatRepository.DeleteUnnecessaryChats(chats.Skip(1).ToList());
			}
			ChatRepository.CloseActiveChat(chatId, false, true);
			Points.Reach("betweenParentAndChild");
			Guid child = ChatRepository.CreateChildChat(chatId, new Dictionary<string, object>());
			ChatQueueDistributor.DistributeQueueChatsByChatId(child);
		}

#if SITE_8_2
		protected virtual void InternalReceive(MessagingMessage messagingMessage) {
			Receive(messagingMessage);
		}

		protected virtual void TransferMessageToQueue(Guid channelId, string sender) {
			Transfer(channelId, sender);
		}
#else
		protected void InternalReceive(MessagingMessage messagingMessage) {
			Receive(messagingMessage);
		}

		protected void TransferMessageToQueue(Guid channelId, string sender) {
			Transfer(channelId, sender);
		}
#endif
	}

	[DefaultBinding(typeof(IOmnichannelMessageFileLoader), Name = "OmnichannelMessage")]
	public class OmnichannelMessageFileLoader : IOmnichannelMessageFileLoader
	{
		private readonly UserConnection _connection;

		public OmnichannelMessageFileLoader(UserConnection userConnection) {
			_connection = userConnection;
		}

		public bool IsFileApiEnabled() {
			return Switches.FileApi;
		}

		/// <summary>First the row, then the bytes, as far as is known from outside.</summary>
		public void UploadFile(MessageAttachment attachment, MemoryStream stream) {
			Save(_connection, attachment, true);
		}

		internal static void Save(UserConnection connection, MessageAttachment attachment, bool inTwoSteps) {
			Entity entity = connection.EntitySchemaManager.GetInstanceByName("OmnichannelMessageFile").CreateEntity(connection);
			entity.SetColumnValue("Id", new Guid(attachment.FileId));
			entity.SetColumnValue("MessageId", attachment.MessageId);
			entity.SetColumnValue("Name", attachment.FileName);
			entity.SetColumnValue("MimeType", attachment.MimeType);
			entity.SetColumnValue("Size", 0);
			if (inTwoSteps) {
				entity.Save(false);
			}
			entity.SetColumnValue("Size", (int)attachment.Content.Length);
			entity.SetStreamValue("Data", attachment.Content);
			entity.Save(false);
		}
	}

	/// <summary>What an agent's page calls, with the rules of the stock service.</summary>
	internal sealed class OutcomeService
	{
		private readonly UserConnection _connection;
		private readonly ChatRepository _chats;
		private readonly MessageManager _messages;

		public OutcomeService(UserConnection connection) {
			_connection = connection;
			_chats = new ChatRepository(connection);
			_messages = new MessageManager(connection);
		}

		public List<Guid> Sent = new List<Guid>();
		public Guid ChatId;

		/// <summary>Null where the agent is told that it was sent, else what he is told.</summary>
		public string Send(Guid chatId, string text, List<MessageAttachment> files) {
			ChatId = chatId;
			Entity chat = _chats.Chat(chatId);
			if (chat == null) {
				return "There is no such chat.";
			}
			var message = Template(chat);
			if (text.Length > 0) {
				string failure = Text(message, text);
				if (failure != null) {
					return failure;
				}
			}
			if (files.Count == 0) {
				return null;
			}
			message = Template(_chats.Chat(ChatId));
			message.ChatId = ChatId.ToString();
			message.Id = Guid.NewGuid();
			message.Message = "";
			message.Attachments = files;
			message.MessageType = files.Last().FileType;
			try {
				bool isNew;
				message.ChatId = _chats.AddMessage(message, out isNew).ToString();
				string answer = _messages.Send(message, message.ChannelName);
				if (answer.Contains("error")) {
					return answer;
				}
				foreach (MessageAttachment file in files) {
					Points.Reach("beforeFile");
					file.MessageId = message.Id;
					OmnichannelMessageFileLoader.Save(_connection, file, Switches.FileApi);
				}
			} catch (Exception error) {
				return "error: " + error.Message;
			}
			Sent.Add(message.Id);
			return null;
		}

		private string Text(MessagingMessage message, string text) {
			message.Message = text;
			try {
				Guid chat = _chats.AddOutcomingMessage(message);
				if (chat == Guid.Empty) {
					return "The chat belongs to another agent.";
				}
				ChatId = chat;
				message.ChatId = chat.ToString();
				string answer = _messages.Send(message, message.ChannelName);
				if (answer.Contains("error")) {
					return answer;
				}
			} catch (Exception error) {
				return "error: " + error.Message;
			}
			Sent.Add(message.Id);
			return null;
		}

		/// <summary>Sender and recipient come from the first message of the chat, turned round by its direction.</summary>
		private MessagingMessage Template(Entity chat) {
			UnifiedMessage first = _messages.GetMessagesByChatId(chat.PrimaryColumnValue).FirstOrDefault()
				?? _messages.GetMessagesByChatId(chat.GetTypedColumnValue<Guid>("ParentId")).FirstOrDefault()
				?? new UnifiedMessage { MessageDirection = MessageDirection.Incoming };
			bool isIncoming = first.MessageDirection == MessageDirection.Incoming;
			return new MessagingMessage {
				ChatId = chat.PrimaryColumnValue.ToString(),
				ChannelId = chat.GetTypedColumnValue<Guid>("ChannelId").ToString(),
				Source = ChannelType.ThirdParty,
				Sender = isIncoming ? first.Recipient : first.Sender,
				Recipient = isIncoming ? first.Sender : first.Recipient,
				MessageDirection = MessageDirection.Outcoming,
				Timestamp = (DateTime.UtcNow.Ticks - 621355968000000000) / 10000
			};
		}

		public bool Accept(Guid chatId) {
			Entity chat = _chats.Chat(chatId);
			if (chat == null || chat.GetTypedColumnValue<Guid>("OperatorId") != Guid.Empty
					|| chat.GetTypedColumnValue<Guid>("StatusId") != Status.Waiting) {
				return false;
			}
			chat.SetColumnValue("OperatorId", _connection.CurrentUser.Id);
			chat.SetColumnValue("StatusId", Status.InProgress);
			chat.SetColumnValue("AcceptDate", DateTime.UtcNow);
			chat.SetColumnValue("DirectedOperatorId", null);
			chat.SetColumnValue("CloseDate", null);
			chat.Save(false);
			return true;
		}

		/// <summary>The child first, then the old chat is completed.</summary>
		public Guid Transfer(Guid chatId, Guid? agent, Guid? queue) {
			Entity chat = _chats.Chat(chatId);
			if (chat.GetTypedColumnValue<Guid>("StatusId") != Status.InProgress
					|| chat.GetTypedColumnValue<Guid>("OperatorId") != _connection.CurrentUser.Id) {
				throw new InvalidOperationException("Only the agent of a chat in progress can transfer it.");
			}
			var columns = new Dictionary<string, object> {
				{ "StatusId", agent == null ? Status.Waiting : Status.InProgress }
			};
			if (agent != null) {
				columns.Add("OperatorId", agent.Value);
			} else {
				columns.Add("QueueId", queue.Value);
			}
			Guid child = _chats.CreateChildChat(chatId, columns);
			UnifiedMessage like = Template(chat);
			_chats.SystemLine(chat, like, "The chat was transferred");
			_chats.SystemLine(_chats.Chat(child), like, "The chat was transferred");
			_chats.Complete(chat, Status.Completed);
			new ChatQueueDistributor(_connection).DistributeQueueChatsByChatId(child);
			return child;
		}
	}
}
