// What tests and the demo do with the site: the same routes and shapes as /control of the simulator.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Threading;
using OmnichannelProviders.Domain.Entities;
using Terrasoft.Common;
using Terrasoft.Configuration.Omnichannel.Messaging;
using Terrasoft.Core;

namespace Engine
{
	internal static class Control
	{
		private static readonly Dictionary<string, int> Locks = new Dictionary<string, int>();

		private static Dictionary<string, object> Object(params object[] namesAndValues) {
			var made = new Dictionary<string, object>();
			for (int index = 0; index < namesAndValues.Length; index += 2) {
				made[(string)namesAndValues[index]] = namesAndValues[index + 1];
			}
			return made;
		}

		private static string Text(Dictionary<string, object> body, string name) {
			object value;
			return body.TryGetValue(name, out value) ? value as string ?? "" : "";
		}

		private static Guid? Id(Dictionary<string, object> body, string name) {
			Guid id;
			return Guid.TryParse(Text(body, name), out id) ? id : (Guid?)null;
		}

		private static UserConnection As(Dictionary<string, object> body) {
			return new UserConnection(Id(body, "agentId").Value);
		}

		private static object Done {
			get { return Object("ok", true); }
		}

		public static object Answer(string method, string path, Dictionary<string, string> query, string text) {
			string[] parts = path.Split('/');
			Dictionary<string, object> body = Json.ReadObject(text);
			string key = method + " " + parts[0];
			switch (key) {
				case "GET ":
					return Object("engine", true, "violations", 0);
				case "POST agents":
					return AddAgent(body);
				case "GET chats":
					string sender;
					query.TryGetValue("sender", out sender);
					return parts.Length > 1
						? Conversation(new Guid(parts[1]))
						: Database.Read("OmniChat").Select(Chat).Where(chat => sender == null || (string)chat["sender"] == sender).ToList();
				case "POST chats":
					return Act(new Guid(parts[1]), parts[2], body);
				case "GET transcript":
					return Transcript(Uri.UnescapeDataString(parts[1]));
				case "GET outbox":
					return Rows("MaxOutbox").OrderBy(row => row["Seq"]).ToList();
				case "POST outbox":
					Switches.OutboxBroken = true.Equals(body["broken"]);
					return Done;
				case "GET violations":
					return new List<object>();
				case "POST lock":
					Lock(Text(body, "channelSource"), Text(body, "sender"), (int)(long)body["calls"]);
					return Done;
				case "POST clock":
					Database.Age((long)body["advanceMs"]);
					CloseExpired();
					return Done;
				case "GET points":
					return Object("held", Points.Held, "count", Points.Count);
				case "POST points":
					return SetPoint(body);
				case "PATCH switches":
					return SetSwitches(body);
				case "GET odata":
					return Rows(parts[1]);
				case "POST odata":
					return Insert(parts[1], body);
				case "PATCH odata":
					Database.Statement(() => {
						Database.Change_(parts[1], Database.Find(parts[1], new Guid(parts[2])), body);
						return 0;
					});
					return Done;
			}
			throw new Refused(404, "There is no such route: " + key);
		}

		private static object SetPoint(Dictionary<string, object> body) {
			if (body.ContainsKey("killAfter")) {
				Points.KillAfter((int)(long)body["killAfter"]);
			}
			if (body.ContainsKey("killAt")) {
				Points.KillAt(Text(body, "killAt"));
			}
			if (body.ContainsKey("hold")) {
				Points.Hold(Text(body, "hold"));
			}
			if (body.ContainsKey("release")) {
				Points.Release();
			}
			return Done;
		}

		private static object SetSwitches(Dictionary<string, object> body) {
			foreach (var one in body) {
				switch (one.Key) {
					case "listenersInTransaction": Switches.ListenersInTransaction = (bool)one.Value; break;
					case "fileApi": Switches.FileApi = (bool)one.Value; break;
					case "bodyLimit": Switches.BodyLimit = (int)(long)one.Value; break;
					case "culture": Switches.Culture = (string)one.Value; break;
					default: throw new Refused(400, "There is no switch " + one.Key + ".");
				}
			}
			return Done;
		}

		private static object AddAgent(Dictionary<string, object> body) {
			Guid contact = Site.Add("Contact", "Name", Text(body, "name"), "Email", Text(body, "email"));
			Row culture = Database.Read("SysCulture").First(row => row.Text("Name") == Switches.Culture);
			string login = Text(body, "login").Length > 0 ? Text(body, "login") : Text(body, "name");
			Guid id = Site.Add("SysAdminUnit", "Id", Id(body, "id") ?? Guid.NewGuid(), "Name", login, "SysAdminUnitTypeValue", 4, "Active", true,
				"ContactId", contact, "SysCultureId", culture.Id);
			if (body.ContainsKey("password")) {
				Site.Add("EngineLogin", "Login", login, "Password", Text(body, "password"), "UserId", id);
			}
			return Object("id", id, "contactId", contact);
		}

		private static object Insert(string table, Dictionary<string, object> body) {
			if (table == "ChatQueue" && !body.ContainsKey("OperatorRoutingRuleId")) {
				body["OperatorRoutingRuleId"] = Site.ForFree;
			}
			var pairs = body.SelectMany(value => new[] { value.Key, value.Value }).ToArray();
			return Object("id", Site.Add(table, pairs));
		}

		private static List<Dictionary<string, object>> Rows(string name) {
			Table table = Database.Table(name);
			return Database.Read(name).Select(row => table.Columns.Where(column => column.Value != "Binary")
				.ToDictionary(column => column.Key, column => OData.Shown(column.Value, row.Get(column.Key)))).ToList();
		}

		// --- a taken lock, as if another request of the package were at work

		private static void Lock(string source, string sender, int calls) {
			lock (Locks) {
				Locks[source + " " + sender] = calls;
			}
			Database.Statement(() => {
				Row row = Database.Rows("MaxSender").FirstOrDefault(one => one.Text("ChannelSource") == source && one.Text("Sender") == sender);
				if (row == null) {
					Database.Insert("MaxSender", Object("ChannelSource", source, "Sender", sender, "LastTimestamp", "0",
						"LockedBy", "control", "LockedOn", DateTime.UtcNow, "UserId", Site.Technical));
				} else {
					Database.Change_("MaxSender", row, Object("LockedBy", "control", "LockedOn", DateTime.UtcNow));
				}
				return 0;
			});
		}

		/// <summary>After a call of the service: one that found the lock taken counts, and with the last the lock goes.</summary>
		public static void CountCall() {
			lock (Locks) {
				foreach (string name in Locks.Keys.ToList()) {
					if (--Locks[name] > 0) {
						continue;
					}
					Locks.Remove(name);
					string[] words = name.Split(' ');
					Database.Statement(() => {
						Row row = Database.Rows("MaxSender").First(one => one.Text("ChannelSource") == words[0] && one.Text("Sender") == words[1]);
						Database.Change_("MaxSender", row, Object("LockedBy", ""));
						return 0;
					});
				}
			}
		}

		// --- agents

		private static object Act(Guid chat, string action, Dictionary<string, object> body) {
			var agent = new OutcomeService(As(body));
			switch (action) {
				case "accept":
					return Object("accepted", agent.Accept(chat));
				case "send":
					string failure = agent.Send(chat, Text(body, "text"), Files(body));
					return Object("sent", failure == null, "chatId", agent.ChatId, "messageIds", agent.Sent, "error", failure);
				case "transfer":
					return Object("chatId", agent.Transfer(chat, Id(body, "toAgentId"), Id(body, "toQueueId")));
				case "close":
					new ChatRepository(As(body)).CloseActiveChat(chat, true);
					return Done;
			}
			throw new Refused(404, "There is no such route of a chat.");
		}

		private static List<MessageAttachment> Files(Dictionary<string, object> body) {
			object files;
			if (!body.TryGetValue("files", out files)) {
				return new List<MessageAttachment>();
			}
			return Site.List(files).Select(file => {
				MessageType type;
				string mime = Text(file, "mimeType");
				bool isKnown = Enum.TryParse(mime.Split('/')[0], true, out type) && type != MessageType.Text && type != MessageType.System;
				return new MessageAttachment {
					FileId = Guid.NewGuid().ToString(),
					FileName = Text(file, "name"),
					MimeType = mime,
					FileType = isKnown ? type : MessageType.File,
					Content = new MemoryStream(Convert.FromBase64String(Text(file, "base64")))
				};
			}).ToList();
		}

		public static void CloseExpired() {
			try {
				new ChatRepository(AppConnection.Instance.SystemUserConnection).CloseExpiredChats();
			} catch (Exception error) {
				Console.Error.WriteLine("The minute job: " + error.Message);
			}
		}

		// --- what is shown

		private static string Sender(Row chat) {
			List<Row> identities = Database.Read("ContactIdentity").Where(row => row.Guid("ContactId") == chat.Guid("ContactId")).ToList();
			Row own = identities.FirstOrDefault(row => row.Guid("ChannelId") == chat.Guid("ChannelId")) ?? identities.FirstOrDefault();
			return own == null ? "" : own.Text("ChannelIdentity");
		}

		private static object OrNull(Guid id) {
			return id == Guid.Empty ? null : (object)id;
		}

		private static Dictionary<string, object> Chat(Row row) {
			Row status = Database.Find("OmnichannelChatStatus", row.Guid("StatusId"));
			return Object("id", row.Id, "status", status.Text("Name"), "statusId", status.Id, "parentId", OrNull(row.Guid("ParentId")),
				"sender", Sender(row), "contactId", row.Guid("ContactId"), "queueId", row.Guid("QueueId"),
				"agentId", OrNull(row.Guid("OperatorId")), "directedAgentId", OrNull(row.Guid("DirectedOperatorId")),
				"unread", row.Get("UnprocessedMsgCount") ?? 0, "preview", row.Text("ChatPreview"), "closeDate", row.Get("CloseDate"),
				"completed", Status.IsOver(row.Guid("StatusId")));
		}

		private static object Conversation(Guid chat) {
			Row row = Database.Find("OmniChat", chat);
			if (row == null) {
				throw new Refused(404, "There is no such chat.");
			}
			var shown = Chat(row);
			var chain = new List<Guid>();
			for (Row one = row; one != null; one = Database.Find("OmniChat", one.Guid("ParentId"))) {
				chain.Add(one.Id);
			}
			shown["messages"] = Database.Read("OmnichannelMessages").Where(message => chain.Contains(message.Guid("ChatId")))
				.OrderBy(message => (long)message.Get("Timestamp")).Select(Message).ToList();
			return shown;
		}

		private static object Transcript(string sender) {
			return Database.Read("OmnichannelMessages").Where(message => Customer(message) == sender).Select(Message).ToList();
		}

		private static bool IsIncoming(Row message) {
			return (int)message.Get("MessageDirection") == 1;
		}

		private static string Customer(Row message) {
			return message.Text(IsIncoming(message) ? "Sender" : "Recipient");
		}

		private static Dictionary<string, object> Message(Row row) {
			Row key = Database.Read("MaxInbound").FirstOrDefault(one => one.Guid("MessageId") == row.Id);
			Row outbox = Database.Read("MaxOutbox").FirstOrDefault(one => one.Guid("MessageId") == row.Id);
			var type = (MessageType)(int)row.Get("MessageType");
			string author = IsIncoming(row) ? "customer" : type == MessageType.System ? "system" : key == null ? "agent" : key.Text("Author");
			return Object("id", row.Id, "chatId", row.Guid("ChatId"), "direction", IsIncoming(row) ? "incoming" : "outgoing",
				"author", author, "type", type.ToString().ToLowerInvariant(), "text", row.Text("Message"), "timestamp", row.Get("Timestamp"),
				"externalId", key == null ? "" : key.Text("ExternalId"),
				"replacesExternalId", key == null ? "" : key.Text("ReplacesExternalId"), "standBy", row.Get("IsStandBy"),
				"attachments", Attachments(row),
				"outbox", outbox == null ? null : Object("seq", outbox.Get("Seq"), "state", outbox.Text("State"), "error", outbox.Text("Error")));
		}

		private static object Attachments(Row row) {
			if (row.Text("Attachments").Length == 0) {
				return new List<object>();
			}
			return Site.List(Json.Read(row.Text("Attachments"))).Select(file => {
				Guid id = new Guid(Text(file, "fileId"));
				Row stored = Database.Find("OmnichannelMessageFile", id);
				byte[] bytes = stored == null ? null : stored.Get("Data") as byte[];
				return Object("id", id, "name", Text(file, "fileName"), "size", bytes == null ? 0 : bytes.Length,
					"messageId", stored == null ? null : (object)stored.Guid("MessageId"),
					"type", ((MessageType)(int)(long)file["fileType"]).ToString().ToLowerInvariant(),
					"sha256", bytes == null ? null : string.Concat(SHA256.Create().ComputeHash(bytes).Select(one => one.ToString("x2"))));
			}).ToList();
		}
	}
}
