namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Collections.Generic;
	using System.IO;
	using System.Linq;
	using System.Net;
	using System.Runtime.Serialization;
	using System.ServiceModel;
	using System.ServiceModel.Activation;
	using System.ServiceModel.Web;
	using System.Web.SessionState;
	using global::OmnichannelMessaging.Utilities;
	using global::OmnichannelProviders;
	using global::OmnichannelProviders.Domain.Entities;
	using Terrasoft.Configuration.Omnichannel.Messaging;
	using Terrasoft.Core;
	using Terrasoft.Core.Entities;
	using Terrasoft.Core.Factories;
	using Terrasoft.Web.Common.ServiceRouting;
	using ChannelType = global::OmnichannelProviders.Domain.Entities.ChannelType;
	using Column = Terrasoft.Core.DB.Column;
	using MessageDirection = global::OmnichannelProviders.Domain.Entities.MessageDirection;
	using MessageType = global::OmnichannelProviders.Domain.Entities.MessageType;
	using Select = Terrasoft.Core.DB.Select;
	using SystemSettings = Terrasoft.Core.Configuration.SysSettings;
	using Update = Terrasoft.Core.DB.Update;

	/// <summary>
	/// What the relay calls: ping, file, receive, handOver, by the wire contract, version 1. Business answers are HTTP 200; a
	/// caller without the operation CanUseMaxChannel gets 403.
	/// </summary>
	[ServiceContract]
	[AspNetCompatibilityRequirements(RequirementsMode = AspNetCompatibilityRequirementsMode.Required)]
	[DefaultServiceRoute]
	public class MaxChannelService : OmnichannelMessagingService, IReadOnlySessionState
	{
		private const string BadRequest = "bad_request";
		private const string Internal = "internal";

		public MaxChannelService() {
		}

		public MaxChannelService(UserConnection userConnection) : base(userConnection) {
		}

		[OperationContract]
		[WebInvoke(Method = "GET", UriTemplate = "ping", BodyStyle = WebMessageBodyStyle.Bare,
			ResponseFormat = WebMessageFormat.Json)]
		public MaxPingResponse ping() {
			return new MaxPingResponse {
				Success = IsAllowed(), Version = MaxNames.Version, Contract = MaxNames.Contract
			};
		}

		/// <summary>The bytes of a file, under an id that the relay has made; id, name and mimeType stand in the query.</summary>
		[OperationContract]
		[WebInvoke(Method = "POST", UriTemplate = "file", BodyStyle = WebMessageBodyStyle.Bare,
			ResponseFormat = WebMessageFormat.Json)]
		public MaxFileResponse file(Stream content) {
			try {
				return IsAllowed() ? Store(content) : Refused("access_denied");
			} catch (Exception error) {
				MaxLog.Error("A file of the relay was not stored.", error);
				return Refused(Internal);
			}
		}

		[OperationContract]
		[WebInvoke(Method = "POST", UriTemplate = "receive", BodyStyle = WebMessageBodyStyle.Bare,
			RequestFormat = WebMessageFormat.Json, ResponseFormat = WebMessageFormat.Json)]
		public MaxReceiveResponse receive(MaxReceiveRequest request) {
			try {
				return IsAllowed() ? Process(request) : Refusal("access_denied", "The user has no right to call this.");
			} catch (Exception error) {
				MaxLog.Error("A message of the relay was not stored.", error);
				return Refusal(Internal, error.Message);
			} finally {
				MaxCleanup.Now(UserConnection);
			}
		}

		[OperationContract]
		[WebInvoke(Method = "POST", UriTemplate = "handOver", BodyStyle = WebMessageBodyStyle.Bare,
			RequestFormat = WebMessageFormat.Json, ResponseFormat = WebMessageFormat.Json)]
		public MaxHandOverResponse handOver(MaxHandOverRequest request) {
			try {
				return IsAllowed() ? HandOver(request) : NotHandedOver("access_denied", "The user has no right to call this.");
			} catch (Exception error) {
				MaxLog.Error("A chat was not handed over.", error);
				return NotHandedOver(Internal, error.Message);
			}
		}

		private bool IsAllowed() {
			if (UserConnection.DBSecurityEngine.GetCanExecuteOperation(MaxNames.Operation)) {
				return true;
			}
#if NETFRAMEWORK
			if (WebOperationContext.Current != null) {
				WebOperationContext.Current.OutgoingResponse.StatusCode = HttpStatusCode.Forbidden;
			}
#else
			HttpContextAccessor.GetInstance().Response.StatusCode = (int)HttpStatusCode.Forbidden;
#endif
			return false;
		}

		// --- file

		private static MaxFileResponse Refused(string code) {
			return new MaxFileResponse { ErrorCode = code };
		}

		private MaxFileResponse Store(Stream content) {
			var query = HttpContextAccessor.GetInstance().Request.QueryString;
			Guid id;
			string name = query["name"];
			string mimeType = query["mimeType"];
			bool isComplete = !string.IsNullOrEmpty(name) && !string.IsNullOrEmpty(mimeType);
			if (!Guid.TryParse(query["id"], out id) || !isComplete || content == null) {
				return Refused(BadRequest);
			}
			int? size = StoredSize(id);
			// What was taken once is not too big for a repeat, even where the setting is lower now.
			long most = Math.Max(MaxFileBytes(), size ?? 0);
			using (MemoryStream bytes = ReadUpTo(content, most)) {
				if (bytes == null) {
					return new MaxFileResponse { ErrorCode = "file_too_big", MaxBytes = most };
				}
				if (size == bytes.Length) {
					return new MaxFileResponse { Success = true, Duplicate = true };
				}
				if (size != null) {
					// A file without its bytes: the request that began to store it has died.
					FileEntity(id, true).Delete();
				}
				try {
					Save(id, MaxDatabase.Cut(name, MaxNames.MediumText), mimeType, bytes);
				} catch (Exception) {
					// Another request with the same file was faster.
					if (StoredSize(id) != bytes.Length) {
						throw;
					}
					return new MaxFileResponse { Success = true, Duplicate = true };
				}
			}
			return new MaxFileResponse { Success = true, Duplicate = false };
		}

		private long MaxFileBytes() {
			object value = SystemSettings.GetValue(UserConnection, MaxNames.MaxFileSize);
			double megabytes = value == null ? 0 : Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture);
			return (long)((megabytes > 0 ? megabytes : MaxNames.MaxFileMegabytes) * 1024 * 1024);
		}

		/// <summary>The whole stream, which cannot be asked for its length; null where it is longer.</summary>
		private static MemoryStream ReadUpTo(Stream content, long most) {
			var bytes = new MemoryStream();
			var buffer = new byte[81920];
			int count;
			bool isTooBig = false;
			while ((count = content.Read(buffer, 0, buffer.Length)) > 0) {
				// Read to its end all the same, so that the caller hears the answer.
				isTooBig = isTooBig || bytes.Length + count > most;
				if (!isTooBig) {
					bytes.Write(buffer, 0, count);
				}
			}
			bytes.Position = 0;
			return isTooBig ? null : bytes;
		}

		private int? StoredSize(Guid id) {
			int? size = null;
			var select = new Select(UserConnection)
				.Column("Size")
				.From("OmnichannelMessageFile")
				.Where("Id").IsEqual(Column.Parameter(id)) as Select;
			select.ExecuteReader(reader => size = Convert.ToInt32(reader["Size"] is DBNull ? 0 : reader["Size"]));
			return size;
		}

		private Entity FileEntity(Guid id, bool isStored) {
			Entity entity = UserConnection.EntitySchemaManager.GetInstanceByName("OmnichannelMessageFile")
				.CreateEntity(UserConnection);
			entity.UseAdminRights = false;
			if (isStored) {
				entity.FetchFromDB(id);
			} else {
				entity.SetDefColumnValues();
			}
			return entity;
		}

		/// <summary>As the stock code saves a file of an agent.</summary>
		private void Save(Guid id, string name, string mimeType, MemoryStream bytes) {
			var loader = ClassFactory.Get<IOmnichannelMessageFileLoader>("OmnichannelMessage",
				new ConstructorArgument("userConnection", UserConnection));
			if (loader.IsFileApiEnabled()) {
				loader.UploadFile(new MessageAttachment {
					FileId = id.ToString(), FileName = name, MimeType = mimeType, FileSize = (int)bytes.Length, Content = bytes
				}, bytes);
				return;
			}
			Entity entity = FileEntity(id, false);
			entity.SetColumnValue("Id", id);
			entity.SetColumnValue("Name", name);
			entity.SetColumnValue("TypeId", MaxNames.FileType);
			entity.SetColumnValue("Size", (int)bytes.Length);
			entity.SetStreamValue("Data", bytes);
			entity.Save(false);
		}

		// --- receive

		private static MaxReceiveResponse Refusal(string code, string message) {
			return new MaxReceiveResponse { ErrorCode = code, ErrorMessage = message };
		}

		private static string Wire(Guid id) {
			return id == Guid.Empty ? null : id.ToString();
		}

		private static MaxReceiveResponse Stored(MaxReceiveRequest request, MaxKey key, bool duplicate) {
			return new MaxReceiveResponse {
				Success = true,
				Duplicate = duplicate,
				MessageId = Wire(MaxInbox.MessageId(request.ChannelSource, request.ExternalId)),
				ChatId = Wire(key.ChatId),
				ContactId = Wire(key.ContactId)
			};
		}

		private static MaxReceiveResponse Queued(MaxReceiveRequest request, bool duplicate) {
			return new MaxReceiveResponse {
				Success = true,
				Duplicate = duplicate,
				Queued = true,
				MessageId = Wire(MaxInbox.MessageId(request.ChannelSource, request.ExternalId))
			};
		}

		private MaxReceiveResponse Process(MaxReceiveRequest request) {
			string wrong = MaxRequestRules.Check(request);
			if (wrong != null) {
				return Refusal(BadRequest, wrong);
			}
			// A repeat is known by its key, whatever would be said of the message today.
			var inbox = new MaxInbox(UserConnection);
			MaxKey key = inbox.Find(request.ChannelSource, request.ExternalId);
			bool duplicate = key != null;
			if (duplicate && key.State == MaxNames.KeyDone) {
				return Stored(request, key, true);
			}
			MaxChannelRow channel = MaxDatabase.ChannelBySource(UserConnection, request.ChannelSource);
			if (channel == null) {
				return Refusal("channel_not_found", "There is no channel with this source.");
			}
			if (!channel.IsActive) {
				return Refusal("channel_inactive", "The channel is not active.");
			}
			if (key == null) {
				duplicate = !inbox.Add(request);
				key = inbox.Find(request.ChannelSource, request.ExternalId);
			}
			// History goes past the library's lock on a chat, and past ours.
			return request.IsIncoming
				? ProcessAlone(inbox, key, channel, request, duplicate)
				: ProcessKey(inbox, key, channel, request, duplicate, null);
		}

		/// <summary>Of the requests of one customer only one works at a time; the others are answered "queued".</summary>
		private MaxReceiveResponse ProcessAlone(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request,
				bool duplicate) {
			var customer = new MaxSenderLock(UserConnection, request.ChannelSource, request.Sender);
			if (!customer.TryAcquire()) {
				return Queued(request, duplicate);
			}
			try {
				// Read again: who held the customer until now may have stored this very message.
				key = inbox.Find(request.ChannelSource, request.ExternalId);
				return ProcessKey(inbox, key, channel, request, duplicate, customer);
			} finally {
				customer.Release();
			}
		}

		/// <summary>A key that is gone was given back by another request with the same message: the repeat makes it anew.</summary>
		private MaxReceiveResponse ProcessKey(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request,
				bool duplicate, MaxSenderLock customer) {
			if (key == null) {
				return Queued(request, duplicate);
			}
			if (key.State == MaxNames.KeyDone || FinishStored(inbox, key, channel, request)) {
				return Stored(request, key, duplicate);
			}
			if (key.State == MaxNames.KeyTaken && !MaxInbox.IsStale(key)) {
				return Queued(request, duplicate);
			}
			MaxReceiveResponse refusal = key.State == MaxNames.KeyQueued ? CheckNew(request, customer) : null;
			if (refusal != null) {
				return inbox.Free(key) ? refusal : Queued(request, true);
			}
			return inbox.Take(key) ? Hand(inbox, key, channel, request, duplicate, customer) : Queued(request, true);
		}

		/// <summary>
		/// What only a message that was handed to nobody yet can break; null where nothing is wrong. Times are judged under the
		/// customer's lock, where no other request can be storing the same message.
		/// </summary>
		private MaxReceiveResponse CheckNew(MaxReceiveRequest request, MaxSenderLock customer) {
			if (customer != null && request.Timestamp <= customer.LastTimestamp()) {
				return Refusal(BadRequest, "The timestamp does not grow.");
			}
			foreach (MaxAttachment file in request.Files) {
				if (StoredSize(new Guid(file.Id)) == null) {
					return Refusal("file_not_found", "The file " + file.Id + " was not uploaded.");
				}
			}
			return null;
		}

		/// <summary>A message that is stored although its key does not say so; the key becomes Done.</summary>
		private bool FinishStored(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request) {
			Guid? chat = MaxDatabase.MessageChat(UserConnection,
				MaxInbox.MessageId(request.ChannelSource, request.ExternalId));
			if (chat == null) {
				return false;
			}
			Finish(inbox, key, channel, request, chat.Value);
			return true;
		}

		private void Finish(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request, Guid chatId) {
			Guid contact = MaxDatabase.Contact(UserConnection, channel.Id, request.Sender);
			MaxChatRow chat = MaxDatabase.Chat(UserConnection, chatId);
			if (request.IsIncoming && chat != null && !MaxNames.IsOpen(chat.StatusId)) {
				// Handed over meanwhile: the dialog goes on in the child.
				MaxChatRow open = MaxDatabase.OpenChat(UserConnection, channel.Id, chat.ContactId);
				chatId = open != null && open.ParentId == chatId ? open.Id : chatId;
			}
			if (request.IsIncoming && request.IsStandBy) {
				ClearCloseDate(chatId);
			}
			inbox.Finish(key, chatId, contact);
		}

		/// <summary>Creatio would close a bot's chat after an hour without a message; closing is the relay's.</summary>
		private void ClearCloseDate(Guid chatId) {
			var update = new Update(UserConnection, "OmniChat")
				.Set("CloseDate", Column.Const(null))
				.Where("Id").IsEqual(Column.Parameter(chatId))
				.And("StatusId").IsEqual(Column.Parameter(MaxNames.BotProcessing)) as Update;
			update.Execute();
		}

		/// <summary>Hands a taken message to the library and looks whether it was stored: the library swallows failures.</summary>
		private MaxReceiveResponse Hand(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request,
				bool duplicate, MaxSenderLock customer) {
			long before = 0;
			Exception failure = null;
			try {
				if (customer == null) {
					if (!StoreHistory(inbox, key, channel, request)) {
						return Stored(request, key, duplicate);
					}
				} else {
					before = customer.LastTimestamp();
					customer.SetTimestamp(Math.Max(before, request.Timestamp));
					EndStandBy(channel, request);
					InternalReceive(Message(channel, request));
				}
			} catch (Exception error) {
				MaxLog.Error("The message " + request.ExternalId + " was not taken by the library.", error);
				failure = error;
			}
			if (FinishStored(inbox, key, channel, request)) {
				return Stored(request, key, duplicate);
			}
			if (failure == null && IsHeldByLibrary(channel, request)) {
				return Queued(request, duplicate);
			}
			if (customer != null) {
				customer.SetTimestamp(before);
			}
			inbox.Free(key);
			return Refusal(Internal, failure == null ? "The message was not stored; the site's log says why." : failure.Message);
		}

		/// <summary>Whether somebody still works for the chat: then the message may wait in the library's memory.</summary>
		private bool IsHeldByLibrary(MaxChannelRow channel, MaxReceiveRequest request) {
			string chat = channel.Id + "_" + request.Sender;
			return UserConnection.ApplicationCache["Omni_ChatQueue_" + chat] != null
				|| UserConnection.ApplicationCache["Omni_ChatLock_" + chat] != null;
		}

		private static MessagingMessage Message(MaxChannelRow channel, MaxReceiveRequest request) {
			MessageType type;
			MaxWords.ToType(request.Type, out type);
			string name = string.IsNullOrEmpty(request.Name)
				? "MAX " + MaxWords.CustomerNumber(request.Sender)
				: MaxDatabase.Cut(request.Name, MaxNames.MediumText);
			var identification = new Dictionary<ContactIdentificationType, string> {
				{ ContactIdentificationType.Name, name }
			};
			if (!string.IsNullOrEmpty(request.Phone)) {
				identification.Add(ContactIdentificationType.Phone, request.Phone);
			}
			return new MessagingMessage {
				Id = MaxInbox.MessageId(request.ChannelSource, request.ExternalId),
				Source = ChannelType.ThirdParty,
				ChannelId = channel.Id.ToString(),
				Sender = request.IsIncoming ? request.Sender : request.ChannelSource,
				Recipient = request.IsIncoming ? request.ChannelSource : request.Sender,
				Message = request.Text ?? "",
				Timestamp = request.Timestamp,
				MessageType = type,
				MessageDirection = request.IsIncoming ? MessageDirection.Incoming : MessageDirection.Outcoming,
				IsStandBy = request.IsIncoming && request.IsStandBy,
				// The library never reads them of a text, and shows a text with any as a file.
				Attachments = type == MessageType.Text ? null : request.Files.Select(Attachment).ToList(),
				ContactIdentification = identification
			};
		}

		private static MessageAttachment Attachment(MaxAttachment file) {
			MessageType type;
			MaxWords.ToType(file.Type, out type);
			return new MessageAttachment {
				FileId = new Guid(file.Id).ToString(),
				FileName = MaxDatabase.Cut(file.Name, MaxNames.MediumText),
				MimeType = file.MimeType,
				FileType = type,
				FileSize = (int)Math.Min(file.Size ?? 0, int.MaxValue)
			};
		}

		/// <summary>A message for agents into a chat that a bot holds hands it over first.</summary>
		private void EndStandBy(MaxChannelRow channel, MaxReceiveRequest request) {
			if (request.IsStandBy) {
				return;
			}
			Guid contact = MaxDatabase.Contact(UserConnection, channel.Id, request.Sender);
			if (contact == Guid.Empty) {
				return;
			}
			List<MaxChatRow> chats = MaxDatabase.Chats(UserConnection, channel.Id, contact);
			MaxChatRow chat = chats.Find(one => MaxNames.IsOpen(one.StatusId)) ?? chats.FirstOrDefault();
			if (chat != null && (chat.StatusId == MaxNames.BotProcessing || IsBrokenHandOver(channel, chat))) {
				Transfer(channel, chat, request.Sender);
			}
		}

		/// <summary>
		/// The library ends the bot's chat and then makes its child: a request that has died in between leaves a dialog that
		/// nobody is called to.
		/// </summary>
		private bool IsBrokenHandOver(MaxChannelRow channel, MaxChatRow chat) {
			return !MaxNames.IsOpen(chat.StatusId)
				&& new MaxInbox(UserConnection).IsHandOverOpen(channel.Source, chat.Id)
				&& !MaxDatabase.HasChild(UserConnection, chat.Id);
		}

		private void SetStatus(Guid chatId, Guid status) {
			Entity chat = UserConnection.EntitySchemaManager.GetInstanceByName("OmniChat").CreateEntity(UserConnection);
			chat.UseAdminRights = false;
			if (chat.FetchFromDB(chatId)) {
				chat.SetColumnValue("StatusId", status);
				chat.Save(false);
			}
		}

		/// <summary>Only under the customer's lock.</summary>
		private void Transfer(MaxChannelRow channel, MaxChatRow chat, string sender) {
			var inbox = new MaxInbox(UserConnection);
			MaxKey key = inbox.BeginHandOver(channel.Source, sender, chat.Id);
			if (!MaxNames.IsOpen(chat.StatusId)) {
				// The library hands over chats of bots only.
				SetStatus(chat.Id, MaxNames.BotProcessing);
			}
			// It finds them by their messages. One without, left by a request that has died, is opened for agents as it is.
			if (MessageManager.GetMessagesByChatId(chat.Id).Any(message => message.Sender == sender)) {
				ForgetLock(channel, sender);
				TransferMessageToQueue(channel.Id, sender);
			} else {
				SetStatus(chat.Id, MaxNames.Waiting);
			}
			MaxChatRow now = MaxDatabase.Chat(UserConnection, chat.Id);
			if (now == null || now.StatusId != MaxNames.BotProcessing) {
				inbox.Finish(key, chat.Id, chat.ContactId);
			}
		}

		/// <summary>
		/// We hold the customer, so a lock of the library is that of a request that has died; it would make the hand-over wait
		/// for the customer's next message.
		/// </summary>
		private void ForgetLock(MaxChannelRow channel, string sender) {
			string name = "Omni_ChatLock_" + channel.Id + "_" + sender;
			if (UserConnection.ApplicationCache[name] != null) {
				UserConnection.ApplicationCache.Remove(name);
			}
		}

		/// <summary>
		/// An entry that was never the agent's: into the open chat, else the newest, else nowhere. False where it has no chat;
		/// the key is Done then.
		/// </summary>
		private bool StoreHistory(MaxInbox inbox, MaxKey key, MaxChannelRow channel, MaxReceiveRequest request) {
			Guid contact = MaxDatabase.Contact(UserConnection, channel.Id, request.Sender);
			List<MaxChatRow> chats = contact == Guid.Empty
				? new List<MaxChatRow>()
				: MaxDatabase.Chats(UserConnection, channel.Id, contact);
			MaxChatRow chat = chats.Find(one => MaxNames.IsOpen(one.StatusId)) ?? chats.FirstOrDefault();
			if (chat == null) {
				inbox.Finish(key, Guid.Empty, contact);
				return false;
			}
			MessagingMessage message = Message(channel, request);
			message.ChatId = chat.Id.ToString();
			// Closing looks for the first message that is no echo, and fails in a chat of echoes only.
			message.IsEcho = MessageManager.GetMessagesByChatId(chat.Id).Any(one => !one.IsEcho);
			MessageManager.Receive(message, message.ChannelName);
			try {
				OperatorNotifier.NewConversationMessageNotify((UnifiedMessage)message);
			} catch (Exception error) {
				MaxLog.Warn("The agent sees a new entry only when he opens the chat again.", error);
			}
			return true;
		}

		// --- handOver

		private static MaxHandOverResponse NotHandedOver(string code, string message) {
			return new MaxHandOverResponse { ErrorCode = code, ErrorMessage = message };
		}

		private MaxHandOverResponse HandOver(MaxHandOverRequest request) {
			Guid id;
			if (request == null || !Guid.TryParse(request.ChatId, out id)) {
				return NotHandedOver(BadRequest, "chatId is missing.");
			}
			MaxChatRow chat = MaxDatabase.Chat(UserConnection, id);
			MaxChannelRow channel = chat == null ? null : MaxDatabase.ChannelById(UserConnection, chat.ChannelId);
			if (channel == null) {
				return NotHandedOver(BadRequest, "There is no such chat.");
			}
			string sender = MaxDatabase.Customer(UserConnection, chat);
			var customer = new MaxSenderLock(UserConnection, channel.Source, sender);
			if (!customer.TryAcquire()) {
				return new MaxHandOverResponse { Success = true, Queued = true };
			}
			try {
				// Read again: who held the customer until now may have handed it over.
				chat = MaxDatabase.Chat(UserConnection, id);
				if (chat.StatusId == MaxNames.BotProcessing || IsBrokenHandOver(channel, chat)) {
					Transfer(channel, chat, sender);
				}
				MaxChatRow open = MaxDatabase.OpenChat(UserConnection, chat.ChannelId, chat.ContactId);
				if (open != null && open.StatusId == MaxNames.BotProcessing) {
					return new MaxHandOverResponse { Success = true, Queued = true };
				}
				return new MaxHandOverResponse { Success = true, ChatId = open == null ? null : Wire(open.Id) };
			} finally {
				customer.Release();
			}
		}
	}

	[DataContract]
	public class MaxPingResponse
	{
		[DataMember(Name = "success")]
		public bool Success { get; set; }
		[DataMember(Name = "version")]
		public string Version { get; set; }
		[DataMember(Name = "contract")]
		public int Contract { get; set; }
	}

	[DataContract]
	public class MaxFileResponse
	{
		[DataMember(Name = "success")]
		public bool Success { get; set; }
		[DataMember(Name = "duplicate", EmitDefaultValue = false)]
		public bool? Duplicate { get; set; }
		[DataMember(Name = "errorCode", EmitDefaultValue = false)]
		public string ErrorCode { get; set; }
		[DataMember(Name = "maxBytes", EmitDefaultValue = false)]
		public long? MaxBytes { get; set; }
	}

	[DataContract]
	public class MaxAttachment
	{
		[DataMember(Name = "id")]
		public string Id { get; set; }
		[DataMember(Name = "name")]
		public string Name { get; set; }
		[DataMember(Name = "mimeType")]
		public string MimeType { get; set; }
		[DataMember(Name = "size")]
		public long? Size { get; set; }
		[DataMember(Name = "type")]
		public string Type { get; set; }
	}

	/// <summary>Ids are texts: an empty one for a Guid would fail inside the serializer, before our code.</summary>
	[DataContract]
	public class MaxReceiveRequest
	{
		[DataMember(Name = "externalId")]
		public string ExternalId { get; set; }
		[DataMember(Name = "channelSource")]
		public string ChannelSource { get; set; }
		[DataMember(Name = "sender")]
		public string Sender { get; set; }
		[DataMember(Name = "name")]
		public string Name { get; set; }
		[DataMember(Name = "phone")]
		public string Phone { get; set; }
		[DataMember(Name = "timestamp")]
		public long? GivenTimestamp { get; set; }
		[DataMember(Name = "direction")]
		public string Direction { get; set; }
		[DataMember(Name = "author")]
		public string Author { get; set; }
		[DataMember(Name = "text")]
		public string Text { get; set; }
		[DataMember(Name = "type")]
		public string Type { get; set; }
		[DataMember(Name = "replacesExternalId")]
		public string ReplacesExternalId { get; set; }
		[DataMember(Name = "standBy")]
		public bool? StandBy { get; set; }
		[DataMember(Name = "attachments")]
		public List<MaxAttachment> Attachments { get; set; }

		public long Timestamp {
			get { return GivenTimestamp ?? 0; }
		}

		public bool IsIncoming {
			get { return Direction == "incoming"; }
		}

		public bool IsStandBy {
			get { return StandBy ?? false; }
		}

		public List<MaxAttachment> Files {
			get { return Attachments ?? new List<MaxAttachment>(); }
		}
	}

	[DataContract]
	public class MaxReceiveResponse
	{
		[DataMember(Name = "success")]
		public bool Success { get; set; }
		[DataMember(Name = "duplicate")]
		public bool Duplicate { get; set; }
		[DataMember(Name = "queued")]
		public bool Queued { get; set; }
		[DataMember(Name = "messageId")]
		public string MessageId { get; set; }
		[DataMember(Name = "chatId")]
		public string ChatId { get; set; }
		[DataMember(Name = "contactId")]
		public string ContactId { get; set; }
		[DataMember(Name = "errorCode")]
		public string ErrorCode { get; set; }
		[DataMember(Name = "errorMessage")]
		public string ErrorMessage { get; set; }
	}

	[DataContract]
	public class MaxHandOverRequest
	{
		[DataMember(Name = "chatId")]
		public string ChatId { get; set; }
	}

	[DataContract]
	public class MaxHandOverResponse
	{
		[DataMember(Name = "success")]
		public bool Success { get; set; }
		[DataMember(Name = "queued")]
		public bool Queued { get; set; }
		[DataMember(Name = "chatId")]
		public string ChatId { get; set; }
		[DataMember(Name = "errorCode", EmitDefaultValue = false)]
		public string ErrorCode { get; set; }
		[DataMember(Name = "errorMessage", EmitDefaultValue = false)]
		public string ErrorMessage { get; set; }
	}
}
