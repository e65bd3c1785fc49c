// The part of OData 4 that the relay and the controller use.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text.RegularExpressions;
using Terrasoft.Common;
using Terrasoft.Core;
using Terrasoft.Core.Entities;

namespace Engine
{
	internal sealed class Refused : Exception
	{
		public readonly int Status;

		public Refused(int status, string message) : base(message) {
			Status = status;
		}
	}

	internal static class OData
	{
		private static readonly Regex Path = new Regex(@"^(\w+)(?:\(([0-9a-fA-F-]{36})\))?$");

		/// <summary>The body of the answer, null for 204.</summary>
		public static object Answer(string method, string path, Dictionary<string, string> query, string body, UserConnection caller,
				out int status) {
			Match match = Path.Match(path);
			if (!match.Success || !Database.Tables.ContainsKey(match.Groups[1].Value)
					|| match.Groups[1].Value.StartsWith("Engine") || match.Groups[1].Value == "OmnichannelMessages") {
				throw new Refused(404, "No HTTP resource was found that matches the request.");
			}
			string name = match.Groups[1].Value;
			Table table = Database.Table(name);
			Guid? id = match.Groups[2].Success ? new Guid(match.Groups[2].Value) : (Guid?)null;
			CheckRights(table, method, caller);
			status = 200;
			if (method == "GET" && id == null) {
				return List(table, query);
			}
			if (method == "POST" && id == null) {
				status = 201;
				return Save(table, null, Json.ReadObject(body), caller);
			}
			if (Database.Find(name, id ?? Guid.Empty) == null) {
				throw new Refused(404, "There is no such row.");
			}
			if (method == "GET") {
				return Show(table, Database.Find(name, id.Value), query);
			}
			status = 204;
			if (method == "PATCH") {
				Save(table, id, Json.ReadObject(body), caller);
			} else if (method == "DELETE") {
				Database.Statement(() => {
					Database.Delete(name, Database.Find(name, id.Value));
					return 0;
				});
			} else {
				throw new Refused(405, "The method is not allowed.");
			}
			return null;
		}

		private static void CheckRights(Table table, string method, UserConnection caller) {
			string needed = method == "GET" ? "read" : method == "POST" ? "append" : method == "PATCH" ? "edit" : "delete";
			if (table.Rights != null && !(caller.CurrentUser.Id == Site.Technical && table.Rights.Contains(needed))) {
				throw new Refused(403, "Current user does not have permissions to " + needed + " " + table.Name + ".");
			}
		}

		private static object Save(Table table, Guid? id, Dictionary<string, object> values, UserConnection caller) {
			Entity entity = caller.EntitySchemaManager.GetInstanceByName(table.Name).CreateEntity(caller);
			if (id == null) {
				entity.SetDefColumnValues();
			} else {
				entity.FetchFromDB(id.Value);
			}
			foreach (var value in values.Where(value => !value.Key.StartsWith("@"))) {
				entity.SetColumnValue(value.Key, value.Value);
			}
			entity.Save(false);
			return Show(table, Database.Find(table.Name, entity.PrimaryColumnValue), new Dictionary<string, string>());
		}

		// --- reading

		private static object List(Table table, Dictionary<string, string> query) {
			IEnumerable<Row> rows = Database.Read(table.Name);
			string value;
			if (query.TryGetValue("$filter", out value)) {
				Func<Row, bool> filter = new Filter(table, value).Read();
				rows = rows.Where(filter);
			}
			if (query.TryGetValue("$orderby", out value)) {
				foreach (string part in value.Split(',').Reverse()) {
					string[] words = part.Trim().Split(' ');
					bool isDescending = words.Length > 1 && words[1] == "desc";
					string column = words[0];
					Column(table, column);
					rows = isDescending
						? rows.OrderByDescending(row => Key(Value(table, row, column)), Comparer<object>.Default)
						: rows.OrderBy(row => Key(Value(table, row, column)), Comparer<object>.Default);
				}
			}
			if (query.TryGetValue("$skip", out value)) {
				rows = rows.Skip(int.Parse(value));
			}
			if (query.TryGetValue("$top", out value)) {
				rows = rows.Take(int.Parse(value));
			}
			return new Dictionary<string, object> {
				{ "@odata.context", "$metadata#" + table.Name },
				{ "value", rows.Select(row => Show(table, row, query)).ToList() }
			};
		}

		/// <summary>Databases order Guids by their text.</summary>
		private static object Key(object value) {
			return value is Guid ? value.ToString() : value;
		}

		private static Dictionary<string, object> Show(Table table, Row row, Dictionary<string, string> query) {
			string selected;
			string[] columns = query.TryGetValue("$select", out selected) && selected.Length > 0
				? selected.Split(',').Select(name => name.Trim()).ToArray()
				: table.Columns.Keys.ToArray();
			var shown = new Dictionary<string, object>();
			foreach (string column in columns) {
				Column(table, column);
				if (table.Columns[column] != "Binary") {
					shown[column] = Shown(table.Columns[column], row.Get(column));
				}
			}
			string expanded;
			if (query.TryGetValue("$expand", out expanded)) {
				foreach (string lookup in expanded.Split(',').Select(name => name.Split('(')[0].Trim())) {
					string target;
					if (!table.Lookups.TryGetValue(lookup + "Id", out target)) {
						throw new Refused(400, "There is no lookup " + lookup + ".");
					}
					Row other = Database.Find(target, row.Guid(lookup + "Id"));
					shown[lookup] = other == null ? null : Show(Database.Table(target), other, new Dictionary<string, string>());
				}
			}
			return shown;
		}

		/// <summary>A missing value is shown as the empty one of its type.</summary>
		public static object Shown(string type, object value) {
			if (value != null) {
				return value;
			}
			switch (type) {
				case "Guid":
					return Guid.Empty;
				case "Integer":
				case "BigInt":
					return 0;
				case "Boolean":
					return false;
				case "DateTime":
					return "0001-01-01T00:00:00Z";
				default:
					return "";
			}
		}

		private static void Column(Table table, string path) {
			if (!path.Contains("/") && !table.Columns.ContainsKey(path)) {
				throw new Refused(400, "Could not find a property named '" + path + "' on type '" + table.Name + "'.");
			}
		}

		private static object Value(Table table, Row row, string path) {
			int slash = path.IndexOf('/');
			if (slash < 0) {
				return Shown(table.Columns[path], row.Get(path));
			}
			string lookup = path.Substring(0, slash) + "Id";
			string rest = path.Substring(slash + 1);
			string target;
			if (!table.Lookups.TryGetValue(lookup, out target)) {
				throw new Refused(400, "There is no lookup " + lookup + ".");
			}
			if (rest == "Id") {
				return row.Guid(lookup);
			}
			Row other = Database.Find(target, row.Guid(lookup));
			return other == null ? "" : Value(Database.Table(target), other, rest);
		}

		/// <summary>or, and, not, brackets, comparisons.</summary>
		private sealed class Filter
		{
			private static readonly Regex Token = new Regex(@"\G\s*('(?:[^']|'')*'|\(|\)|[^\s()']+)");
			private readonly Table _table;
			private readonly List<string> _tokens = new List<string>();
			private int _at;

			public Filter(Table table, string text) {
				_table = table;
				for (Match match = Token.Match(text); match.Success; match = match.NextMatch()) {
					_tokens.Add(match.Groups[1].Value);
				}
			}

			public Func<Row, bool> Read() {
				Func<Row, bool> read = Or();
				if (_at != _tokens.Count) {
					throw new Refused(400, "The filter goes on after its end.");
				}
				return read;
			}

			private string Next() {
				if (_at >= _tokens.Count) {
					throw new Refused(400, "The filter ends too early.");
				}
				return _tokens[_at++];
			}

			private bool Is(string word) {
				if (_at < _tokens.Count && _tokens[_at] == word) {
					_at++;
					return true;
				}
				return false;
			}

			private Func<Row, bool> Or() {
				Func<Row, bool> left = And();
				while (Is("or")) {
					Func<Row, bool> one = left;
					Func<Row, bool> other = And();
					left = row => one(row) || other(row);
				}
				return left;
			}

			private Func<Row, bool> And() {
				Func<Row, bool> left = Not();
				while (Is("and")) {
					Func<Row, bool> one = left;
					Func<Row, bool> other = Not();
					left = row => one(row) && other(row);
				}
				return left;
			}

			private Func<Row, bool> Not() {
				if (Is("not")) {
					Func<Row, bool> inner = Not();
					return row => !inner(row);
				}
				if (Is("(")) {
					Func<Row, bool> inner = Or();
					if (!Is(")")) {
						throw new Refused(400, "A bracket is missing.");
					}
					return inner;
				}
				string path = Next();
				Column(_table, path);
				string operation = Next();
				object literal = Literal(Next());
				return row => Compare(Value(_table, row, path), operation, literal);
			}

			private static object Literal(string token) {
				Guid id;
				DateTime time;
				long number;
				if (token[0] == '\'') {
					return token.Substring(1, token.Length - 2).Replace("''", "'");
				}
				if (token == "true" || token == "false") {
					return token == "true";
				}
				if (Guid.TryParse(token, out id)) {
					return id;
				}
				if (long.TryParse(token, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number)) {
					return number;
				}
				if (DateTime.TryParse(token, CultureInfo.InvariantCulture,
						DateTimeStyles.AdjustToUniversal | DateTimeStyles.AssumeUniversal, out time)) {
					return time;
				}
				throw new Refused(400, "The filter's value is of no known type: " + token);
			}

			private static bool Compare(object value, string operation, object literal) {
				if (value is int) {
					value = (long)(int)value;
				}
				if (value is string && literal is DateTime) {
					value = Database.ReadTime((string)value);
				}
				if (value.GetType() != literal.GetType()) {
					throw new Refused(400, "A binary operator with incompatible types was detected.");
				}
				int order = value is string
					? string.CompareOrdinal((string)value, (string)literal)
					: ((IComparable)value).CompareTo(literal);
				switch (operation) {
					case "eq": return order == 0;
					case "ne": return order != 0;
					case "gt": return order > 0;
					case "ge": return order >= 0;
					case "lt": return order < 0;
					case "le": return order <= 0;
				}
				throw new Refused(400, "Unknown operator " + operation + ".");
			}
		}
	}
}
