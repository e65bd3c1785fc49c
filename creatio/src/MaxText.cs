namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Globalization;
	using System.Text;
	using Terrasoft.Common;
	using Terrasoft.Core;
	using Column = Terrasoft.Core.DB.Column;
	using Select = Terrasoft.Core.DB.Select;

	/// <summary>Words for the agent, in the language of his profile: Russian, else English.</summary>
	public static class MaxText
	{
		public static string NotDelivered(bool russian, string why) {
			return WithReason(russian ? "Сообщение не доставлено" : "The message was not delivered", why);
		}

		public static string Uncertain(bool russian, string why) {
			return WithReason(russian ? "Неизвестно, доставлено ли сообщение" : "It is not known whether the message was delivered", why);
		}

		public static string DeliveredAfterAll(bool russian) {
			return russian ? "Сообщение всё же доставлено" : "The message was delivered after all";
		}

		private static string WithReason(string what, string why) {
			return string.IsNullOrEmpty(why) ? what + "." : what + ": " + why;
		}

		/// <summary>Whether the user reads Russian. Nobody and an unknown culture read English.</summary>
		public static bool IsRussian(UserConnection connection, Guid userId) {
			Guid culture = Guid.Empty;
			var select = new Select(connection)
				.Column("SysCultureId")
				.From("SysAdminUnit")
				.Where("Id").IsEqual(Column.Parameter(userId)) as Select;
			select.ExecuteReader(reader => culture = reader.GetColumnValue<Guid>("SysCultureId"));
			string name = culture == Guid.Empty ? "" : MaxDatabase.Name(connection, "SysCulture", culture);
			return name.StartsWith("ru", StringComparison.OrdinalIgnoreCase);
		}
	}

	/// <summary>The little JSON that the package writes by hand.</summary>
	public static class MaxJson
	{
		/// <summary>A string literal; lone surrogates and U+0000, which databases refuse, are lost.</summary>
		public static string Text(string text) {
			var json = new StringBuilder("\"");
			string given = text ?? "";
			for (int index = 0; index < given.Length; index++) {
				char one = given[index];
				if (char.IsHighSurrogate(one) && index + 1 < given.Length && char.IsLowSurrogate(given[index + 1])) {
					json.Append(one).Append(given[++index]);
				} else if (char.IsSurrogate(one) || one == '\0') {
					continue;
				} else if (one == '"' || one == '\\') {
					json.Append('\\').Append(one);
				} else if (one < ' ') {
					json.Append("\\u").Append(((int)one).ToString("x4", CultureInfo.InvariantCulture));
				} else {
					json.Append(one);
				}
			}
			return json.Append('"').ToString();
		}
	}

	/// <summary>The log of the site, under the package's own name.</summary>
	public static class MaxLog
	{
		private static readonly global::Common.Logging.ILog Log =
			global::Common.Logging.LogManager.GetLogger(MaxNames.LoggerName);

		public static void Error(string what, Exception error) {
			Log.Error(what, error);
		}

		public static void Warn(string what, Exception error) {
			if (error == null) {
				Log.Warn(what);
			} else {
				Log.Warn(what, error);
			}
		}
	}
}
