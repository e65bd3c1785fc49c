// JSON for the engine itself: objects are dictionaries, arrays lists. Not part of any library of Creatio.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Engine
{
	internal static class Json
	{
		public static object Read(string text) {
			int at = 0;
			object value = ReadValue(text, ref at);
			Skip(text, ref at);
			if (at != text.Length) {
				throw new FormatException("JSON goes on after its end.");
			}
			return value;
		}

		public static Dictionary<string, object> ReadObject(string text) {
			return text.Trim().Length == 0 ? new Dictionary<string, object>() : (Dictionary<string, object>)Read(text);
		}

		private static void Skip(string text, ref int at) {
			while (at < text.Length && char.IsWhiteSpace(text[at])) {
				at++;
			}
		}

		private static object ReadValue(string text, ref int at) {
			Skip(text, ref at);
			if (at >= text.Length) {
				throw new FormatException("JSON ends too early.");
			}
			char one = text[at];
			if (one == '{') {
				return ReadMembers(text, ref at);
			}
			if (one == '[') {
				return ReadElements(text, ref at);
			}
			if (one == '"') {
				return ReadText(text, ref at);
			}
			int start = at;
			while (at < text.Length && ",]} \t\r\n".IndexOf(text[at]) < 0) {
				at++;
			}
			string word = text.Substring(start, at - start);
			switch (word) {
				case "true":
					return true;
				case "false":
					return false;
				case "null":
					return null;
			}
			long whole;
			if (long.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out whole)) {
				return whole;
			}
			return double.Parse(word, NumberStyles.Float, CultureInfo.InvariantCulture);
		}

		private static object ReadMembers(string text, ref int at) {
			var members = new Dictionary<string, object>();
			at++;
			Skip(text, ref at);
			while (text[at] != '}') {
				Skip(text, ref at);
				string name = ReadText(text, ref at);
				Skip(text, ref at);
				if (text[at++] != ':') {
					throw new FormatException("JSON: a colon is missing.");
				}
				members[name] = ReadValue(text, ref at);
				Skip(text, ref at);
				if (text[at] == ',') {
					at++;
					Skip(text, ref at);
				} else if (text[at] != '}') {
					throw new FormatException("JSON: a comma is missing.");
				}
			}
			at++;
			return members;
		}

		private static object ReadElements(string text, ref int at) {
			var elements = new List<object>();
			at++;
			Skip(text, ref at);
			while (text[at] != ']') {
				elements.Add(ReadValue(text, ref at));
				Skip(text, ref at);
				if (text[at] == ',') {
					at++;
					Skip(text, ref at);
				} else if (text[at] != ']') {
					throw new FormatException("JSON: a comma is missing.");
				}
			}
			at++;
			return elements;
		}

		private static string ReadText(string text, ref int at) {
			if (text[at] != '"') {
				throw new FormatException("JSON: a quote is missing.");
			}
			var read = new StringBuilder();
			for (at++; text[at] != '"'; at++) {
				if (text[at] != '\\') {
					read.Append(text[at]);
					continue;
				}
				at++;
				switch (text[at]) {
					case 'n': read.Append('\n'); break;
					case 't': read.Append('\t'); break;
					case 'r': read.Append('\r'); break;
					case 'b': read.Append('\b'); break;
					case 'f': read.Append('\f'); break;
					case 'u':
						read.Append((char)int.Parse(text.Substring(at + 1, 4), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
						at += 4;
						break;
					default: read.Append(text[at]); break;
				}
			}
			at++;
			return read.ToString();
		}

		public static string Write(object value) {
			var text = new StringBuilder();
			Write(text, value);
			return text.ToString();
		}

		private static void Write(StringBuilder text, object value) {
			if (value == null) {
				text.Append("null");
			} else if (value is string) {
				WriteText(text, (string)value);
			} else if (value is bool) {
				text.Append((bool)value ? "true" : "false");
			} else if (value is Guid) {
				WriteText(text, value.ToString());
			} else if (value is DateTime) {
				WriteText(text, Time((DateTime)value));
			} else if (value is IDictionary) {
				text.Append('{');
				bool first = true;
				foreach (DictionaryEntry member in (IDictionary)value) {
					text.Append(first ? "" : ",");
					first = false;
					WriteText(text, (string)member.Key);
					text.Append(':');
					Write(text, member.Value);
				}
				text.Append('}');
			} else if (value is IEnumerable) {
				text.Append('[');
				bool first = true;
				foreach (object element in (IEnumerable)value) {
					text.Append(first ? "" : ",");
					first = false;
					Write(text, element);
				}
				text.Append(']');
			} else {
				text.Append(Convert.ToString(value, CultureInfo.InvariantCulture));
			}
		}

		public static string Time(DateTime time) {
			return time.ToString("yyyy-MM-ddTHH:mm:ss.ffffff", CultureInfo.InvariantCulture) + "Z";
		}

		private static void WriteText(StringBuilder text, string value) {
			text.Append('"');
			foreach (char one in value) {
				if (one == '"' || one == '\\') {
					text.Append('\\').Append(one);
				} else if (one < ' ') {
					text.Append("\\u").Append(((int)one).ToString("x4"));
				} else {
					text.Append(one);
				}
			}
			text.Append('"');
		}
	}
}
