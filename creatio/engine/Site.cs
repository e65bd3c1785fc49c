// The tables of a site and what stands in them before anybody has done anything.
using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace Engine
{
	internal static class Site
	{
		public static readonly Guid Technical = new Guid("7d5a3f0e-5f0b-4d5c-9d3e-0a1b2c3d4e5f");
		public const string ClientId = "C0FFEE00C0FFEE00C0FFEE00C0FFEE00";
		public const string ClientSecret = "invented-client-secret";
		public const string NotifySecret = "invented-notify-secret";
		public static readonly Guid ForFree = new Guid("5f1e4b53-1d1c-4b5f-9a0a-4a1f3f6a9c02");
		public static readonly Guid Provider = new Guid("889213f3-6d22-55a4-8421-4a8a63914f71");

		/// <summary>Column types: g Guid, g:Table a lookup, i Integer, l BigInt, b Boolean, d DateTime, x Binary, a number a text.</summary>
		private static readonly string[] Stock = {
			"Contact Name=250 Email=250 MobilePhone=250 Notes=0",
			"SysAdminUnit Name=250 SysAdminUnitTypeValue=i Active=b ContactId=g:Contact Email=250 SysCultureId=g",
			"SysCulture Name=50",
			"ChannelProvider Name=250 Description=250 PageUrl=250",
			"OperatorRoutingRules Name=250 Code=50",
			"ChatQueue Name=250 OperatorRoutingRuleId=g:OperatorRoutingRules SimultaneousChats=i ChatTimeout=i TimeToWaitInQueue=i",
			"ChatQueueOperator OperatorId=g:SysAdminUnit ChatQueueId=g:ChatQueue",
			"Channel Name=500 ProviderId=g:ChannelProvider MsgSettingsId=g ChatQueueId=g:ChatQueue Source=250 IsActive=b",
			"OmnichannelChatStatus Name=250",
			"OmniChat Name=250 StatusId=g:OmnichannelChatStatus ContactId=g:Contact ChannelId=g:Channel QueueId=g:ChatQueue "
				+ "OperatorId=g:SysAdminUnit DirectedOperatorId=g:SysAdminUnit ParentId=g:OmniChat UnprocessedMsgCount=i "
				+ "LastMessageDirection=i ChatPreview=0 Conversation=0 ChatStartDate=d AcceptDate=d CompletionDate=d CloseDate=d",
			"ContactIdentity ContactId=g:Contact ChannelId=g:Channel ChannelIdentity=50 unique=ChannelIdentity,ChannelId",
			"OmnichannelMessages Timestamp=l Sender=50 Recipient=50 Source=i ChatId=g Message=0 MessageDirection=i MessageType=i "
				+ "Attachments=0 ChannelId=g IsBotMessage=b IsStandBy=b",
			"ChatMessages OmniChatId=g Message=0 Sender=50 Recipient=50 Timestamp=250",
			"OmnichannelMessageFile Name=250 TypeId=g Size=i MessageId=g MimeType=250 Data=x",
			"EngineGrant UserId=g Operation=50",
			"EngineSetting Code=50 Value=0",
			"EngineLogin Login=250 Password=250 UserId=g",
			"EngineCache Key=0 Value=x"
		};

		private static readonly Dictionary<string, string> Types = new Dictionary<string, string> {
			{ "g", "Guid" }, { "i", "Integer" }, { "l", "BigInt" }, { "b", "Boolean" }, { "d", "DateTime" }, { "x", "Binary" },
			{ "ShortText", "50" }, { "MediumText", "250" }, { "LongText", "500" }, { "MaxSizeText", "0" }
		};

		/// <summary>The tables, from the stock list and from the package's own file.</summary>
		public static void Define(string objects) {
			foreach (string line in Stock) {
				string[] words = line.Split(' ');
				Table table = New(words[0]);
				foreach (string[] column in words.Skip(1).Select(word => word.Split('='))) {
					if (column[0] == "unique") {
						table.Unique.Add(column[1].Split(','));
						continue;
					}
					string[] type = column[1].Split(':');
					table.Columns[column[0]] = Types.ContainsKey(type[0]) ? Types[type[0]] : type[0];
					if (type.Length > 1) {
						table.Lookups[column[0]] = type[1];
					}
				}
			}
			foreach (Dictionary<string, object> one in List(Json.ReadObject(File.ReadAllText(objects))["objects"])) {
				Table table = New((string)one["name"]);
				foreach (Dictionary<string, object> column in List(one["columns"])) {
					string type = (string)column["type"];
					table.Columns[(string)column["name"]] = Types.ContainsKey(type) ? Types[type] : type;
				}
				foreach (List<object> unique in (List<object>)one["unique"]) {
					table.Unique.Add(unique.Cast<string>().ToArray());
				}
				var rights = (Dictionary<string, object>)one["rights"];
				table.Rights = new HashSet<string>(((List<object>)rights["technical"]).Cast<string>());
			}
		}

		public static IEnumerable<Dictionary<string, object>> List(object value) {
			return ((List<object>)value).Cast<Dictionary<string, object>>();
		}

		private static Table New(string name) {
			var table = new Table { Name = name };
			table.Columns["Id"] = "Guid";
			table.Columns["CreatedOn"] = "DateTime";
			table.Columns["ModifiedOn"] = "DateTime";
			table.Columns["CreatedById"] = "Guid";
			table.Columns["ModifiedById"] = "Guid";
			Database.Tables[name] = table;
			return table;
		}

		public static Guid Add(string table, params object[] namesAndValues) {
			var values = new Dictionary<string, object> { { "Id", Guid.NewGuid() }, { "CreatedOn", DateTime.UtcNow }, { "ModifiedOn", DateTime.UtcNow } };
			for (int index = 0; index < namesAndValues.Length; index += 2) {
				values[(string)namesAndValues[index]] = namesAndValues[index + 1];
			}
			Database.Statement(() => {
				Database.Insert(table, values);
				return 0;
			});
			return (Guid)values["Id"];
		}

		/// <summary>Only at the first start of a store.</summary>
		public static void Fill() {
			if (Database.Read("SysAdminUnit").Count > 0) {
				return;
			}
			Add("OmnichannelChatStatus", "Id", new Guid("79bccffa-8c8b-4863-b376-a69d2244182b"), "Name", "Waiting for processing");
			Add("OmnichannelChatStatus", "Id", new Guid("81737bdd-60c7-4ef7-bb75-52c53d5c38c1"), "Name", "In progress");
			Add("OmnichannelChatStatus", "Id", new Guid("a1b0184b-0a54-4a47-ba08-a5772105d3b2"), "Name", "Completed");
			Add("OmnichannelChatStatus", "Id", new Guid("b05fbf72-69ed-41a7-be7c-af3ec13b08c7"), "Name", "Processed by bot");
			Add("OmnichannelChatStatus", "Id", new Guid("8e7cc4aa-261b-4f62-9c7b-7d7f1e68c86a"), "Name", "Completed by bot");
			Add("OmnichannelChatStatus", "Id", new Guid("179601ae-58d9-425d-880b-fa4b3aace644"), "Name", "Handed over to agent");
			Add("OperatorRoutingRules", "Name", "Everyone", "Code", "ForEveryone");
			Add("OperatorRoutingRules", "Id", ForFree, "Name", "Free", "Code", "ForFree");
			Add("SysCulture", "Name", "en-US");
			Add("SysCulture", "Name", "ru-RU");
			// What the package brings along.
			Add("ChannelProvider", "Id", Provider, "Name", "MAX");
			Add("MaxCounter", "Id", new Guid("5cfee3d2-3c5f-5c0b-8f43-5d5e2a3c2f19"), "Name", "MaxOutbox", "LastSeq", 0);
			// What the administrator does after the installation.
			Add("EngineSetting", "Code", "MaxChannelNotifySecret", "Value", NotifySecret);
			Add("EngineGrant", "UserId", Technical, "Operation", "CanUseMaxChannel");
			Guid contact = Add("Contact", "Name", "max.relay");
			Add("SysAdminUnit", "Id", Technical, "Name", "max.relay", "SysAdminUnitTypeValue", 4, "Active", true, "ContactId", contact);
		}
	}
}
