// The engine's database: tables in memory, every commit one line of a journal, so that a killed host finds what was committed.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Text;
using System.Threading;
using Terrasoft.Common;

namespace Engine
{
	/// <summary>What no public source settles, and what a test can set.</summary>
	internal static class Switches
	{
		/// <summary>The statuses of 8.2.</summary>
		public static bool Is82;
		/// <summary>Whether a listener's statements belong to the transaction of what it listens to.</summary>
		public static bool ListenersInTransaction = true;
		/// <summary>A failed statement spoils the transaction around it, as in PostgreSQL.</summary>
		public static bool FailureSpoils = true;
		/// <summary>Files are saved by the File API instead of the entity.</summary>
		public static bool FileApi;
		/// <summary>The limit of a JSON body, as WCF has by default; 0: none.</summary>
		public static int BodyLimit;
		/// <summary>The outbox cannot be written.</summary>
		public static bool OutboxBroken;
		/// <summary>The culture of new agents.</summary>
		public static string Culture = "en-US";
	}

	/// <summary>Places at which a test kills the host or holds a request.</summary>
	internal static class Points
	{
		private static int _killAfter;
		private static string _killAt;
		private static string _hold;
		private static readonly ManualResetEvent Released = new ManualResetEvent(true);
		private static int _held;
		private static int _reached;

		public static int Held {
			get { return _held; }
		}

		public static int Count {
			get { return _reached; }
		}

		/// <summary>Kills this process at the n-th place from now on.</summary>
		public static void KillAfter(int count) {
			Interlocked.Exchange(ref _killAfter, count);
		}

		public static void KillAt(string name) {
			_killAt = name;
		}

		/// <summary>Holds the next request that comes to the place.</summary>
		public static void Hold(string name) {
			Released.Reset();
			_hold = name;
		}

		public static void Release() {
			_hold = null;
			Released.Set();
		}

		public static void Reach(string name) {
			Interlocked.Increment(ref _reached);
			bool isDue = Volatile.Read(ref _killAfter) > 0 && Interlocked.Decrement(ref _killAfter) == 0;
			if (isDue || name == _killAt) {
				// SIGKILL: no handler, no finally, nothing is flushed.
				System.Diagnostics.Process.GetCurrentProcess().Kill();
				Thread.Sleep(Timeout.Infinite);
			}
			bool isHeld;
			lock (Released) {
				isHeld = name == _hold;
				_hold = isHeld ? null : _hold;
			}
			if (isHeld) {
				Interlocked.Increment(ref _held);
				Released.WaitOne();
				Interlocked.Decrement(ref _held);
			}
		}
	}

	internal sealed class Row
	{
		public long Order;
		public Dictionary<string, object> Values = new Dictionary<string, object>();

		public Guid Id {
			get { return (Guid)Values["Id"]; }
		}

		public object Get(string column) {
			object value;
			return Values.TryGetValue(column, out value) ? value : null;
		}

		public Guid Guid(string column) {
			object value = Get(column);
			return value is Guid ? (Guid)value : System.Guid.Empty;
		}

		public string Text(string column) {
			return Get(column) as string ?? "";
		}
	}

	internal sealed class Table
	{
		public string Name;
		/// <summary>Type of each column: Guid, Integer, BigInt, Boolean, DateTime, Binary, or the length of a text, 0 for any.</summary>
		public Dictionary<string, string> Columns = new Dictionary<string, string>();
		/// <summary>Lookups: column to table, shown by OData as Name/Id.</summary>
		public Dictionary<string, string> Lookups = new Dictionary<string, string>();
		public List<string[]> Unique = new List<string[]>();
		public Dictionary<Guid, Row> Rows = new Dictionary<Guid, Row>();
		/// <summary>What the technical user may do; null: everything, and every other user reads.</summary>
		public HashSet<string> Rights;
		private readonly Dictionary<string, Dictionary<string, Guid>> _keys = new Dictionary<string, Dictionary<string, Guid>>();

		private static string Key(string[] columns, Row row) {
			return string.Join("\n", columns.Select(column => Convert.ToString(row.Get(column), CultureInfo.InvariantCulture)));
		}

		private Dictionary<string, Guid> Keys(string[] columns) {
			string name = string.Join(",", columns);
			Dictionary<string, Guid> keys;
			if (!_keys.TryGetValue(name, out keys)) {
				_keys[name] = keys = new Dictionary<string, Guid>();
			}
			return keys;
		}

		public void Put(Row row) {
			foreach (string[] columns in Unique) {
				Guid other;
				if (Keys(columns).TryGetValue(Key(columns, row), out other) && other != row.Id) {
					throw new DbOperationException("23505: duplicate key value violates unique constraint \"" + Name + "\"");
				}
			}
			Rows[row.Id] = row;
			foreach (string[] columns in Unique) {
				Keys(columns)[Key(columns, row)] = row.Id;
			}
		}

		public void Remove(Row row) {
			Rows.Remove(row.Id);
			foreach (string[] columns in Unique) {
				Keys(columns).Remove(Key(columns, row));
			}
		}

		/// <summary>A value as the column stores it.</summary>
		public object Fit(string column, object value) {
			string type;
			if (!Columns.TryGetValue(column, out type)) {
				throw new DbOperationException("42703: column \"" + column + "\" of relation \"" + Name + "\" does not exist");
			}
			if (value == null || value is DBNull) {
				return null;
			}
			switch (type) {
				case "Guid":
					Guid id = value is Guid ? (Guid)value : new Guid(value.ToString());
					// A lookup of nobody is stored as none.
					return id == Guid.Empty && Lookups.ContainsKey(column) ? null : (object)id;
				case "Integer":
					return Convert.ToInt32(value, CultureInfo.InvariantCulture);
				case "BigInt":
					return Convert.ToInt64(value, CultureInfo.InvariantCulture);
				case "Boolean":
					return Convert.ToBoolean(value, CultureInfo.InvariantCulture);
				case "DateTime":
					return value is DateTime ? DateTime.SpecifyKind((DateTime)value, DateTimeKind.Utc) : Database.ReadTime(value.ToString());
				case "Binary":
					return (byte[])value;
			}
			string text = value.ToString();
			int most = int.Parse(type);
			if (most > 0 && text.Length > most) {
				throw new DbOperationException("22001: value too long for type character varying(" + most + ")");
			}
			if (text.IndexOf('\0') >= 0) {
				throw new DbOperationException("22021: invalid byte sequence for encoding \"UTF8\": 0x00");
			}
			return text;
		}
	}

	internal static class Database
	{
		public static readonly object Gate = new object();
		public static readonly Dictionary<string, Table> Tables = new Dictionary<string, Table>();
		private static FileStream _journal;
		private static long _order;

		private struct Change
		{
			public Table Table;
			public Row Before;
			public Row After;
		}

		private sealed class Transaction
		{
			public int Depth;
			public bool IsSpoiled;
			public List<Change> Changes = new List<Change>();
		}

		[ThreadStatic]
		private static Transaction _transaction;

		public static Table Table(string name) {
			Table table;
			if (!Tables.TryGetValue(name, out table)) {
				throw new DbOperationException("42P01: relation \"" + name + "\" does not exist");
			}
			return table;
		}

		// --- transactions: one at a time on the whole site, so that each sees all of the others or nothing

		public static int Depth {
			get { return _transaction == null ? 0 : _transaction.Depth; }
		}

		public static void Begin() {
			Points.Reach("begin");
			if (_transaction == null) {
				Monitor.Enter(Gate);
				_transaction = new Transaction();
			}
			_transaction.Depth++;
		}

		public static void Commit() {
			if (_transaction == null) {
				throw new InvalidOperationException("There is no transaction.");
			}
			Points.Reach("commit");
			if (_transaction.IsSpoiled) {
				Rollback();
				throw new DbOperationException("25P02: current transaction is aborted");
			}
			_transaction.Depth--;
			if (_transaction.Depth > 0) {
				return;
			}
			Transaction ended = _transaction;
			_transaction = null;
			try {
				WriteJournal(ended.Changes);
			} finally {
				Monitor.Exit(Gate);
			}
			Points.Reach("committed");
		}

		/// <summary>A rollback inside another transaction spoils that, too.</summary>
		public static void Rollback() {
			if (_transaction == null) {
				return;
			}
			_transaction.IsSpoiled = true;
			_transaction.Depth--;
			if (_transaction.Depth > 0) {
				return;
			}
			Transaction ended = _transaction;
			_transaction = null;
			Undo(ended.Changes, 0);
			Monitor.Exit(Gate);
		}

		/// <summary>One statement: all of it or nothing, with a commit of its own where no transaction is open.</summary>
		public static T Statement<T>(Func<T> work) {
			Points.Reach("statement");
			if (_transaction != null) {
				if (_transaction.IsSpoiled) {
					throw new DbOperationException("25P02: current transaction is aborted, commands are ignored");
				}
				int before = _transaction.Changes.Count;
				try {
					return work();
				} catch {
					Undo(_transaction.Changes, before);
					_transaction.IsSpoiled = Switches.FailureSpoils;
					throw;
				}
			}
			T result;
			lock (Gate) {
				_transaction = new Transaction { Depth = 1 };
				try {
					result = work();
					WriteJournal(_transaction.Changes);
				} catch {
					Undo(_transaction.Changes, 0);
					throw;
				} finally {
					_transaction = null;
				}
			}
			return result;
		}

		private static void Undo(List<Change> changes, int keep) {
			for (int index = changes.Count - 1; index >= keep; index--) {
				Apply(changes[index].Table, changes[index].After, changes[index].Before);
			}
			changes.RemoveRange(keep, changes.Count - keep);
		}

		private static void Apply(Table table, Row before, Row after) {
			if (before != null) {
				table.Remove(before);
			}
			if (after != null) {
				table.Put(after);
			}
		}

		private static void Make(Table table, Row before, Row after) {
			if (before != null && after != null) {
				table.Remove(before);
				try {
					table.Put(after);
				} catch {
					table.Put(before);
					throw;
				}
			} else {
				Apply(table, before, after);
			}
			_transaction.Changes.Add(new Change { Table = table, Before = before, After = after });
		}

		// --- rows; only inside Statement

		public static void Insert(string name, Dictionary<string, object> values) {
			Table table = Table(name);
			if (Switches.OutboxBroken && name == "MaxOutbox") {
				throw new DbOperationException("53100: could not extend file: No space left on device");
			}
			var row = new Row { Order = Interlocked.Increment(ref _order) };
			foreach (var value in values) {
				row.Values[value.Key] = table.Fit(value.Key, value.Value);
			}
			if (row.Get("Id") == null) {
				row.Values["Id"] = Guid.NewGuid();
			}
			if (table.Rows.ContainsKey(row.Id)) {
				throw new DbOperationException("23505: duplicate key value violates unique constraint \"PK" + name + "\"");
			}
			Check(table, row);
			Make(table, null, row);
		}

		private static void Check(Table table, Row row) {
			foreach (var lookup in table.Lookups) {
				Guid id = row.Guid(lookup.Key);
				if (id != Guid.Empty && !Table(lookup.Value).Rows.ContainsKey(id)) {
					throw new DbOperationException("23503: insert or update on table \"" + table.Name
						+ "\" violates foreign key constraint on " + lookup.Key);
				}
			}
		}

		public static void Change_(string name, Row row, Dictionary<string, object> values) {
			Table table = Table(name);
			var after = new Row { Order = row.Order, Values = new Dictionary<string, object>(row.Values) };
			foreach (var value in values) {
				after.Values[value.Key] = table.Fit(value.Key, value.Value);
			}
			Check(table, after);
			Make(table, row, after);
		}

		public static void Delete(string name, Row row) {
			foreach (Table other in Tables.Values) {
				foreach (var lookup in other.Lookups.Where(lookup => lookup.Value == name)) {
					if (other.Rows.Values.Any(one => one.Guid(lookup.Key) == row.Id)) {
						throw new DbOperationException("23503: update or delete on table \"" + name
							+ "\" violates foreign key constraint on table \"" + other.Name + "\"");
					}
				}
			}
			Make(Table(name), row, null);
		}

		public static List<Row> Rows(string name) {
			return Table(name).Rows.Values.OrderBy(row => row.Order).ToList();
		}

		/// <summary>A snapshot for those who read past the query builder.</summary>
		public static List<Row> Read(string name) {
			lock (Gate) {
				return Rows(name);
			}
		}

		public static Row Find(string name, Guid id) {
			lock (Gate) {
				Row row;
				return Table(name).Rows.TryGetValue(id, out row) ? row : null;
			}
		}

		/// <summary>Makes every time in the store that much older: time has moved on.</summary>
		public static void Age(long milliseconds) {
			Statement(() => {
				foreach (Table table in Tables.Values) {
					foreach (Row row in Rows(table.Name)) {
						var times = row.Values.Where(value => value.Value is DateTime)
							.ToDictionary(value => value.Key, value => (object)((DateTime)value.Value).AddMilliseconds(-milliseconds));
						if (times.Count > 0) {
							Change_(table.Name, row, times);
						}
					}
				}
				return 0;
			});
		}

		// --- the journal

		public static void Open(string path) {
			if (File.Exists(path)) {
				byte[] all = File.ReadAllBytes(path);
				// A commit that was being written when the host was killed has no end of line: it did not happen.
				int whole = Array.LastIndexOf(all, (byte)'\n') + 1;
				foreach (string line in Encoding.UTF8.GetString(all, 0, whole).Split('\n')) {
					if (line.Length > 0) {
						Replay(line);
					}
				}
				using (var file = new FileStream(path, FileMode.Open)) {
					file.SetLength(whole);
				}
			}
			_journal = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read);
		}

		private static void WriteJournal(List<Change> changes) {
			if (_journal == null || changes.Count == 0) {
				return;
			}
			var lines = changes.Select(change => {
				Row row = change.After ?? change.Before;
				var entry = new List<object> { change.Table.Name, row.Id, change.After == null ? -1L : row.Order };
				if (change.After != null) {
					entry.Add(row.Values.ToDictionary(value => value.Key, value => Store(value.Value)));
				}
				return entry;
			});
			byte[] line = Encoding.UTF8.GetBytes(Json.Write(lines) + "\n");
			_journal.Write(line, 0, line.Length);
			// To the kernel: a killed process loses nothing that it has written there.
			_journal.Flush();
		}

		private static object Store(object value) {
			return value is byte[] ? Convert.ToBase64String((byte[])value)
				: value is DateTime ? ((DateTime)value).Ticks
				: value;
		}

		private static void Replay(string line) {
			foreach (List<object> entry in ((List<object>)Json.Read(line)).Cast<List<object>>()) {
				Table table = Table((string)entry[0]);
				Guid id = new Guid((string)entry[1]);
				Row old;
				if (table.Rows.TryGetValue(id, out old)) {
					table.Remove(old);
				}
				long order = (long)entry[2];
				if (order < 0) {
					continue;
				}
				var row = new Row { Order = order };
				foreach (var value in (Dictionary<string, object>)entry[3]) {
					string type = table.Columns[value.Key];
					row.Values[value.Key] = value.Value == null ? null
						: type == "DateTime" ? new DateTime((long)value.Value, DateTimeKind.Utc)
						: type == "Binary" ? Convert.FromBase64String((string)value.Value)
						: table.Fit(value.Key, value.Value);
				}
				table.Put(row);
				_order = Math.Max(_order, order);
			}
		}

		public static DateTime ReadTime(string text) {
			return DateTime.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.AdjustToUniversal | DateTimeStyles.AssumeUniversal);
		}
	}
}
