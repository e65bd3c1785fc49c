namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Linq;
	using MessageType = global::OmnichannelProviders.Domain.Entities.MessageType;

	/// <summary>The rules of the contract for a body of "receive" that need no database.</summary>
	public static class MaxRequestRules
	{
		private static readonly string[] Outgoing = { "autoReply", "closeMessage", "bot" };

		/// <summary>What is wrong, in one sentence; null where nothing is.</summary>
		public static string Check(MaxReceiveRequest request) {
			if (request == null) {
				return "The body is missing.";
			}
			return Missing("externalId", request.ExternalId, MaxNames.MediumText)
				?? Missing("channelSource", request.ChannelSource, MaxNames.ShortText)
				?? Missing("sender", request.Sender, MaxNames.ShortText)
				?? Missing("direction", request.Direction, MaxNames.ShortText)
				?? Missing("author", request.Author, MaxNames.ShortText)
				?? Missing("type", request.Type, MaxNames.ShortText)
				?? Unstorable(request)
				?? (request.Timestamp > 0 ? null : "timestamp is missing.")
				?? Direction(request)
				?? Type(request)
				?? Replacement(request);
		}

		private static string Missing(string name, string value, int most) {
			if (string.IsNullOrEmpty(value)) {
				return name + " is missing.";
			}
			return value.Length > most ? name + " is longer than " + most + "." : null;
		}

		/// <summary>PostgreSQL stores neither U+0000 nor lone surrogates.</summary>
		private static string Unstorable(MaxReceiveRequest request) {
			string[] all = { request.ExternalId, request.Sender, request.Name, request.Phone, request.Text,
				request.ReplacesExternalId };
			return all.Any(HasUnstorable) || request.Files.Any(file => file != null && HasUnstorable(file.Name))
				? "A text contains U+0000 or a lone surrogate."
				: null;
		}

		private static bool HasUnstorable(string text) {
			for (int index = 0; text != null && index < text.Length; index++) {
				char one = text[index];
				if (one == '\0') {
					return true;
				}
				if (char.IsHighSurrogate(one) && index + 1 < text.Length && char.IsLowSurrogate(text[index + 1])) {
					index++;
				} else if (char.IsSurrogate(one)) {
					return true;
				}
			}
			return false;
		}

		private static string Direction(MaxReceiveRequest request) {
			if (request.Direction == "incoming") {
				return request.Author == "customer" ? null : "author does not go with the direction.";
			}
			if (request.Direction == "outgoing") {
				return Outgoing.Contains(request.Author) ? null : "author does not go with the direction.";
			}
			return "direction is unknown.";
		}

		private static string Type(MaxReceiveRequest request) {
			MessageType type;
			if (!MaxWords.ToType(request.Type, out type)) {
				return "type is unknown.";
			}
			foreach (MaxAttachment file in request.Files) {
				string wrong = Attachment(file);
				if (wrong != null) {
					return "attachments: " + wrong;
				}
			}
			string last = request.Files.Count == 0 ? "text" : request.Files[request.Files.Count - 1].Type;
			return last == request.Type ? null : "type is not that of the last attachment.";
		}

		private static string Attachment(MaxAttachment file) {
			Guid id;
			MessageType type;
			if (file == null || !Guid.TryParse(file.Id, out id)) {
				return "id is not a Guid.";
			}
			if (string.IsNullOrEmpty(file.Name) || string.IsNullOrEmpty(file.MimeType)) {
				return "name or mimeType is missing.";
			}
			if (file.Size == null || file.Size < 0) {
				return "size is missing.";
			}
			return MaxWords.ToType(file.Type, out type) && type != MessageType.Text ? null : "type is unknown.";
		}

		/// <summary>An edit is "[id]:edit:[ms]", a removal "[id]:removed", both with the id of what they replace.</summary>
		private static string Replacement(MaxReceiveRequest request) {
			string replaced = "";
			string id = request.ExternalId;
			int edit = id.LastIndexOf(":edit:", StringComparison.Ordinal);
			if (id.EndsWith(":removed", StringComparison.Ordinal)) {
				replaced = id.Substring(0, id.Length - ":removed".Length);
			} else if (edit >= 0) {
				string at = id.Substring(edit + ":edit:".Length);
				replaced = at.Length > 0 && at.All(one => one >= '0' && one <= '9') ? id.Substring(0, edit) : "";
			}
			return replaced == (request.ReplacesExternalId ?? "")
				? null
				: "externalId and replacesExternalId do not belong together.";
		}
	}
}
