// Stand-in for Terrasoft.Core: the members that the package uses, over the engine's database.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Data;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using Engine;
using Terrasoft.Common;

[assembly: InternalsVisibleTo("OmnichannelMessaging")]
[assembly: InternalsVisibleTo("Terrasoft.Configuration")]
[assembly: InternalsVisibleTo("Terrasoft.Web.Common")]
[assembly: InternalsVisibleTo("engine")]

namespace Terrasoft.Core.Store
{
	public interface ICacheStore
	{
		object this[string key] { get; set; }
		void Remove(string key);
	}
}

namespace Terrasoft.Core
{
	using Terrasoft.Core.DB;
	using Terrasoft.Core.Entities;
	using Terrasoft.Core.Store;

	public class SysUserInfo
	{
		public Guid Id { get; internal set; }
		public Guid ContactId { get; internal set; }
		public string Name { get; internal set; }
	}

	public class DBSecurityEngine
	{
		internal UserConnection Connection;

		public bool GetCanExecuteOperation(string operation) {
			return Connection.IsSystem || Database.Read("EngineGrant").Any(row =>
				row.Guid("UserId") == Connection.CurrentUser.Id && row.Text("Operation") == operation);
		}
	}

	public class AppConnection
	{
		internal static readonly AppConnection Instance = new AppConnection();
		internal static readonly Guid SystemUser = new Guid("410006e1-ca4e-4502-a9ec-e54d922d2c00");

		public UserConnection SystemUserConnection {
			get { return new UserConnection(SystemUser); }
		}
	}

	public class UserConnection
	{
		internal UserConnection(Guid user) {
			Row row = Database.Find("SysAdminUnit", user);
			CurrentUser = new SysUserInfo {
				Id = user, Name = row == null ? "" : row.Text("Name"), ContactId = row == null ? Guid.Empty : row.Guid("ContactId")
			};
			EntitySchemaManager = new EntitySchemaManager();
			DBSecurityEngine = new DBSecurityEngine { Connection = this };
		}

		internal bool IsSystem {
			get { return CurrentUser.Id == AppConnection.SystemUser; }
		}

		public SysUserInfo CurrentUser { get; private set; }
		public EntitySchemaManager EntitySchemaManager { get; private set; }
		public DBSecurityEngine DBSecurityEngine { get; private set; }

		public AppConnection AppConnection {
			get { return AppConnection.Instance; }
		}

		public ICacheStore ApplicationCache {
			get { return Cache.Instance; }
		}

		public DBExecutor EnsureDBConnection() {
			return new DBExecutor();
		}

		/// <summary>The cache stands outside the site's process, and hands out copies.</summary>
		private sealed class Cache : ICacheStore
		{
			public static readonly Cache Instance = new Cache();

			private static Row Find(string key) {
				return Database.Rows("EngineCache").FirstOrDefault(row => row.Text("Key") == key);
			}

			public object this[string key] {
				get {
					byte[] bytes;
					lock (Database.Gate) {
						Row row = Find(key);
						if (row == null) {
							return null;
						}
						bytes = (byte[])row.Get("Value");
					}
					using (var stream = new MemoryStream(bytes)) {
						return new System.Runtime.Serialization.Formatters.Binary.BinaryFormatter().Deserialize(stream);
					}
				}
				set {
					var stream = new MemoryStream();
					new System.Runtime.Serialization.Formatters.Binary.BinaryFormatter().Serialize(stream, value);
					Points.Reach("cache");
					Database.Statement(() => {
						Row row = Find(key);
						var values = new Dictionary<string, object> { { "Key", key }, { "Value", stream.ToArray() } };
						if (row == null) {
							Database.Insert("EngineCache", values);
						} else {
							Database.Change_("EngineCache", row, values);
						}
						return 0;
					});
				}
			}

			public void Remove(string key) {
				Database.Statement(() => {
					Row row = Find(key);
					if (row != null) {
						Database.Delete("EngineCache", row);
					}
					return 0;
				});
			}
		}
	}
}

namespace Terrasoft.Core.Configuration
{
	public static class SysSettings
	{
		public static object GetValue(UserConnection userConnection, string code) {
			Row row = Database.Read("EngineSetting").FirstOrDefault(one => one.Text("Code") == code);
			return row == null ? null : row.Get("Value");
		}

		public static T GetValue<T>(UserConnection userConnection, string code, T defaultValue) {
			object value = GetValue(userConnection, code);
			return value is T ? (T)value : defaultValue;
		}
	}
}

namespace Terrasoft.Core.Factories
{
	[AttributeUsage(AttributeTargets.Class)]
	public class DefaultBindingAttribute : Attribute
	{
		public DefaultBindingAttribute(Type type) {
			Type = type;
		}

		public Type Type { get; private set; }
		public string Name { get; set; }
	}

	public class ConstructorArgument
	{
		public ConstructorArgument(string name, object value) {
			Name = name;
			Value = value;
		}

		public string Name { get; private set; }
		public object Value { get; private set; }
	}

	public static class ClassFactory
	{
		/// <summary>An argument must have the exact name of the constructor's parameter.</summary>
		public static T Get<T>(string name, params ConstructorArgument[] arguments) {
			foreach (Assembly assembly in AppDomain.CurrentDomain.GetAssemblies()) {
				if (assembly.GlobalAssemblyCache) {
					continue;
				}
				foreach (Type type in assembly.GetTypes()) {
					foreach (DefaultBindingAttribute binding in type.GetCustomAttributes(typeof(DefaultBindingAttribute), false)) {
						if (binding.Type == typeof(T) && binding.Name == name) {
							return (T)Make(type, arguments);
						}
					}
				}
			}
			throw new InvalidOperationException("Nothing is bound to " + typeof(T).Name + " under the name " + name + ".");
		}

		private static object Make(Type type, ConstructorArgument[] arguments) {
			foreach (ConstructorInfo constructor in type.GetConstructors()) {
				ParameterInfo[] parameters = constructor.GetParameters();
				if (parameters.Length == arguments.Length
						&& parameters.All(parameter => arguments.Any(argument => argument.Name == parameter.Name))) {
					return constructor.Invoke(parameters
						.Select(parameter => arguments.First(argument => argument.Name == parameter.Name).Value).ToArray());
				}
			}
			throw new InvalidOperationException(type.Name + " has no constructor with these arguments.");
		}
	}
}

namespace Terrasoft.Core.DB
{
	public class DBExecutor : IDisposable
	{
		private int _open;

		public void StartTransaction() {
			Database.Begin();
			_open++;
		}

		public void CommitTransaction() {
			_open--;
			Database.Commit();
		}

		public void RollbackTransaction() {
			if (_open > 0) {
				_open--;
				Database.Rollback();
			}
		}

		public void Dispose() {
			while (_open > 0) {
				RollbackTransaction();
			}
		}
	}

	public class QueryParameter
	{
		public QueryParameter(object value) {
			Value = value;
		}

		public object Value { get; private set; }
	}

	public class QueryColumnExpression
	{
		internal readonly Func<Row, object> Evaluate;

		private QueryColumnExpression(Func<Row, object> evaluate) {
			Evaluate = evaluate;
		}

		public QueryColumnExpression(string column) {
			Evaluate = row => row.Get(column);
		}

		public static implicit operator QueryColumnExpression(QueryParameter parameter) {
			return new QueryColumnExpression(row => parameter.Value);
		}

		public static QueryColumnExpression Add(QueryColumnExpression left, QueryColumnExpression right) {
			return new QueryColumnExpression(row => Convert.ToInt64(left.Evaluate(row)) + Convert.ToInt64(right.Evaluate(row)));
		}
	}

	public static class Column
	{
		public static QueryParameter Parameter(object value) {
			return new QueryParameter(value);
		}

		public static QueryParameter Const(object value) {
			return new QueryParameter(value);
		}

		public static IEnumerable<QueryParameter> Parameters(IEnumerable values) {
			return values.Cast<object>().Select(value => new QueryParameter(value)).ToList();
		}
	}

	public class QueryCondition
	{
		private readonly Query _query;
		private readonly string _column;
		private readonly bool _isOr;

		internal QueryCondition(Query query, string column, bool isOr) {
			_query = query;
			_column = column;
			_isOr = isOr;
		}

		private Query Add(Func<object, bool> holds) {
			_query.Conditions.Add(new KeyValuePair<bool, Func<Row, bool>>(_isOr, row => {
				if (!_query.Table.Columns.ContainsKey(_column)) {
					throw new DbOperationException("42703: column \"" + _column + "\" does not exist");
				}
				return holds(row.Get(_column));
			}));
			return _query;
		}

		private object Fitting(QueryParameter parameter) {
			return _query.Table.Columns.ContainsKey(_column) && parameter.Value != null
				? _query.Table.Fit(_column, parameter.Value)
				: parameter.Value;
		}

		public Query IsEqual(QueryParameter parameter) {
			// NULL equals nothing; a zero Guid in a lookup is stored as NULL and is not found either.
			return Add(value => value != null && Equals(value, Fitting(parameter)));
		}

		public Query IsLess(QueryParameter parameter) {
			return Add(value => value != null && Comparer.Default.Compare(value, Fitting(parameter)) < 0);
		}

		public Query In(IEnumerable<QueryParameter> parameters) {
			return Add(value => value != null && parameters.Any(parameter => Equals(value, Fitting(parameter))));
		}
	}

	public abstract class Query
	{
		internal string Source;
		internal List<KeyValuePair<bool, Func<Row, bool>>> Conditions = new List<KeyValuePair<bool, Func<Row, bool>>>();
		internal string Order;

		internal Table Table {
			get { return Database.Table(Source); }
		}

		public QueryCondition Where(string column) {
			return new QueryCondition(this, column, false);
		}

		public QueryCondition And(string column) {
			return new QueryCondition(this, column, false);
		}

		public QueryCondition Or(string column) {
			return new QueryCondition(this, column, true);
		}

		public Query OrderByAsc(string column) {
			Order = column;
			return this;
		}

		internal List<Row> Matching() {
			IEnumerable<Row> rows = Database.Rows(Source).Where(row => {
				bool holds = true;
				foreach (var condition in Conditions) {
					holds = condition.Key ? holds || condition.Value(row) : holds && condition.Value(row);
				}
				return holds;
			});
			if (Order != null) {
				rows = rows.OrderBy(row => row.Get(Order), Comparer<object>.Default);
			}
			return rows.ToList();
		}

		public virtual int Execute() {
			throw new NotSupportedException();
		}

		public virtual int Execute(DBExecutor executor) {
			return Execute();
		}
	}

	public delegate void ExecuteReaderReadMethod(IDataReader reader);

	public class Select : Query
	{
		private readonly List<string> _columns = new List<string>();
		private int _top = int.MaxValue;

		public Select(UserConnection userConnection) {
		}

		public Select Top(int count) {
			_top = count;
			return this;
		}

		public Select Column(string name) {
			_columns.Add(name);
			return this;
		}

		public Select From(string table) {
			Source = table;
			return this;
		}

		private List<Dictionary<string, object>> Run() {
			return Database.Statement(() => {
				foreach (string column in _columns) {
					if (!Table.Columns.ContainsKey(column)) {
						throw new DbOperationException("42703: column \"" + column + "\" does not exist in " + Source);
					}
				}
				return Matching().Take(_top).Select(row => _columns.ToDictionary(column => column, row.Get)).ToList();
			});
		}

		public void ExecuteReader(ExecuteReaderReadMethod read) {
			foreach (var row in Run()) {
				read(new RowReader(row));
			}
		}

		public T ExecuteScalar<T>() {
			Dictionary<string, object> row = Run().FirstOrDefault();
			object value = row == null ? null : row[_columns[0]];
			return value == null ? default(T) : (T)Convert.ChangeType(value, typeof(T));
		}

		public T ExecuteScalar<T>(DBExecutor executor) {
			return ExecuteScalar<T>();
		}
	}

	public class Insert : Query
	{
		private readonly Dictionary<string, object> _values = new Dictionary<string, object>();

		public Insert(UserConnection userConnection) {
		}

		public Insert Into(string table) {
			Source = table;
			return this;
		}

		public Insert Set(string column, QueryColumnExpression value) {
			_values.Add(column, value.Evaluate(new Row()));
			return this;
		}

		public override int Execute() {
			return Database.Statement(() => {
				Database.Insert(Source, _values);
				return 1;
			});
		}
	}

	public class Update : Query
	{
		private readonly Dictionary<string, QueryColumnExpression> _values = new Dictionary<string, QueryColumnExpression>();

		public Update(UserConnection userConnection, string table) {
			Source = table;
		}

		public Update Set(string column, QueryColumnExpression value) {
			_values.Add(column, value);
			return this;
		}

		public override int Execute() {
			return Database.Statement(() => {
				List<Row> rows = Matching();
				foreach (Row row in rows) {
					Database.Change_(Source, row, _values.ToDictionary(value => value.Key, value => value.Value.Evaluate(row)));
				}
				return rows.Count;
			});
		}
	}

	public class Delete : Query
	{
		public Delete(UserConnection userConnection) {
		}

		public Delete From(string table) {
			Source = table;
			return this;
		}

		public override int Execute() {
			return Database.Statement(() => {
				List<Row> rows = Matching();
				rows.ForEach(row => Database.Delete(Source, row));
				return rows.Count;
			});
		}
	}

	/// <summary>The columns of one row, read by name.</summary>
	internal sealed class RowReader : IDataReader
	{
		private readonly Dictionary<string, object> _row;

		public RowReader(Dictionary<string, object> row) {
			_row = row;
		}

		public object this[string name] {
			get { return _row[name] ?? DBNull.Value; }
		}

		public object this[int index] {
			get { throw new NotSupportedException(); }
		}

		public int Depth { get { return 0; } }
		public bool IsClosed { get { return false; } }
		public int RecordsAffected { get { return 0; } }
		public int FieldCount { get { return _row.Count; } }
		public void Close() { }
		public void Dispose() { }
		public DataTable GetSchemaTable() { throw new NotSupportedException(); }
		public bool NextResult() { throw new NotSupportedException(); }
		public bool Read() { throw new NotSupportedException(); }
		public bool GetBoolean(int i) { throw new NotSupportedException(); }
		public byte GetByte(int i) { throw new NotSupportedException(); }
		public long GetBytes(int i, long f, byte[] b, int o, int l) { throw new NotSupportedException(); }
		public char GetChar(int i) { throw new NotSupportedException(); }
		public long GetChars(int i, long f, char[] b, int o, int l) { throw new NotSupportedException(); }
		public IDataReader GetData(int i) { throw new NotSupportedException(); }
		public string GetDataTypeName(int i) { throw new NotSupportedException(); }
		public DateTime GetDateTime(int i) { throw new NotSupportedException(); }
		public decimal GetDecimal(int i) { throw new NotSupportedException(); }
		public double GetDouble(int i) { throw new NotSupportedException(); }
		public Type GetFieldType(int i) { throw new NotSupportedException(); }
		public float GetFloat(int i) { throw new NotSupportedException(); }
		public Guid GetGuid(int i) { throw new NotSupportedException(); }
		public short GetInt16(int i) { throw new NotSupportedException(); }
		public int GetInt32(int i) { throw new NotSupportedException(); }
		public long GetInt64(int i) { throw new NotSupportedException(); }
		public string GetName(int i) { throw new NotSupportedException(); }
		public int GetOrdinal(string name) { throw new NotSupportedException(); }
		public string GetString(int i) { throw new NotSupportedException(); }
		public object GetValue(int i) { throw new NotSupportedException(); }
		public int GetValues(object[] values) { throw new NotSupportedException(); }
		public bool IsDBNull(int i) { throw new NotSupportedException(); }
	}
}

namespace Terrasoft.Core.Entities
{
	using Terrasoft.Core.Entities.Events;

	public class EntityColumnValue
	{
		public string Name { get; internal set; }
		public object Value { get; internal set; }
		public object OldValue { get; internal set; }
	}

	public class EntityColumnValueCollection : List<EntityColumnValue>
	{
	}

	public class EntityBeforeEventArgs : EventArgs
	{
	}

	public class EntityAfterEventArgs : EventArgs
	{
		public EntityColumnValueCollection ModifiedColumnValues { get; internal set; }
		public Guid PrimaryColumnValue { get; internal set; }
	}

	public class EntitySchemaManager
	{
		public EntitySchema GetInstanceByName(string name) {
			Database.Table(name);
			return new EntitySchema { Name = name };
		}
	}

	public class EntitySchema
	{
		public string Name { get; internal set; }

		public Entity CreateEntity(UserConnection userConnection) {
			return new Entity(userConnection, Name);
		}
	}

	public class Entity
	{
		private Dictionary<string, object> _old = new Dictionary<string, object>();
		private readonly Dictionary<string, object> _values = new Dictionary<string, object>();
		private bool _isStored;

		internal Entity(UserConnection userConnection, string name) {
			UserConnection = userConnection;
			SchemaName = name;
			UseAdminRights = true;
		}

		public UserConnection UserConnection { get; private set; }
		public string SchemaName { get; private set; }
		public bool UseAdminRights { get; set; }

		public Guid PrimaryColumnValue {
			get { return GetTypedColumnValue<Guid>("Id"); }
		}

		public void SetDefColumnValues() {
			_values["Id"] = Guid.NewGuid();
		}

		public bool SetColumnValue(string valueName, object value) {
			_values[valueName] = Database.Table(SchemaName).Fit(valueName, value);
			return true;
		}

		public void SetStreamValue(string valueName, Stream stream) {
			var bytes = new MemoryStream();
			stream.Position = 0;
			stream.CopyTo(bytes);
			SetColumnValue(valueName, bytes.ToArray());
		}

		private static T Typed<T>(Dictionary<string, object> values, string name) {
			object value;
			return values.TryGetValue(name, out value) && value is T ? (T)value : default(T);
		}

		public T GetTypedColumnValue<T>(string name) {
			if (!Database.Table(SchemaName).Columns.ContainsKey(name)) {
				throw new InvalidOperationException("There is no column " + name + " in " + SchemaName + ".");
			}
			return Typed<T>(_values, name);
		}

		public T GetTypedOldColumnValue<T>(string name) {
			return Typed<T>(_old, name);
		}

		public object GetColumnValue(string name) {
			object value;
			return _values.TryGetValue(name, out value) ? value : null;
		}

		public IEnumerable<EntityColumnValue> GetChangedColumnValues() {
			return Changes();
		}

		private EntityColumnValueCollection Changes() {
			var changes = new EntityColumnValueCollection();
			foreach (var value in _values) {
				object old;
				_old.TryGetValue(value.Key, out old);
				if (!Equals(old, value.Value)) {
					changes.Add(new EntityColumnValue { Name = value.Key, Value = value.Value, OldValue = old });
				}
			}
			return changes;
		}

		public bool FetchFromDB(object keyValue, bool useDisplayValues = true) {
			Row row = Database.Statement(() => Database.Find(SchemaName, (Guid)keyValue));
			if (row == null) {
				return false;
			}
			_old = new Dictionary<string, object>(row.Values);
			_values.Clear();
			foreach (var value in row.Values) {
				_values.Add(value.Key, value.Value);
			}
			_isStored = true;
			return true;
		}

		public bool Save(bool validateRequired = true, bool setColumnDefValue = true) {
			EntityColumnValueCollection changes = Changes();
			if (_isStored && changes.Count == 0) {
				return true;
			}
			DateTime now = DateTime.UtcNow;
			SetColumnValue("ModifiedOn", now);
			if (!_isStored) {
				SetColumnValue("CreatedOn", now);
			}
			List<BaseEntityEventListener> listeners = BaseEntityEventListener.Of(SchemaName);
			var before = new EntityBeforeEventArgs();
			bool isNew = !_isStored;
			listeners.ForEach(listener => {
				listener.OnSaving(this, before);
				if (isNew) {
					listener.OnInserting(this, before);
				} else {
					listener.OnUpdating(this, before);
				}
			});
			changes = Changes();
			var after = new EntityAfterEventArgs { ModifiedColumnValues = changes, PrimaryColumnValue = PrimaryColumnValue };
			Action tell = () => listeners.ForEach(listener => {
				if (isNew) {
					listener.OnInserted(this, after);
				} else {
					listener.OnUpdated(this, after);
				}
				listener.OnSaved(this, after);
			});
			if (!Switches.ListenersInTransaction) {
				Store(isNew, changes);
				tell();
				return true;
			}
			Database.Begin();
			try {
				Store(isNew, changes);
				tell();
			} catch {
				Database.Rollback();
				throw;
			}
			Database.Commit();
			return true;
		}

		private void Store(bool isNew, EntityColumnValueCollection changes) {
			Database.Statement(() => {
				if (isNew) {
					Database.Insert(SchemaName, _values);
				} else {
					Row row;
					if (!Database.Table(SchemaName).Rows.TryGetValue(PrimaryColumnValue, out row)) {
						throw new DbOperationException("The row is gone.");
					}
					Database.Change_(SchemaName, row, changes.ToDictionary(change => change.Name, change => change.Value));
				}
				return 0;
			});
			_old = new Dictionary<string, object>(_values);
			_isStored = true;
		}

		public void Delete() {
			Database.Statement(() => {
				Row row = Database.Find(SchemaName, PrimaryColumnValue);
				if (row != null) {
					Database.Delete(SchemaName, row);
				}
				return 0;
			});
		}
	}
}

namespace Terrasoft.Core.Entities.Events
{
	[AttributeUsage(AttributeTargets.Class)]
	public class EntityEventListenerAttribute : Attribute
	{
		public string SchemaName { get; set; }
	}

	public class BaseEntityEventListener
	{
		public virtual void OnSaving(object sender, EntityBeforeEventArgs e) { }
		public virtual void OnSaved(object sender, EntityAfterEventArgs e) { }
		public virtual void OnInserting(object sender, EntityBeforeEventArgs e) { }
		public virtual void OnInserted(object sender, EntityAfterEventArgs e) { }
		public virtual void OnUpdating(object sender, EntityBeforeEventArgs e) { }
		public virtual void OnUpdated(object sender, EntityAfterEventArgs e) { }
		public virtual void OnDeleting(object sender, EntityBeforeEventArgs e) { }
		public virtual void OnDeleted(object sender, EntityAfterEventArgs e) { }

		private static Dictionary<string, List<Type>> _types;

		/// <summary>Found by their attribute, as on a site.</summary>
		internal static List<BaseEntityEventListener> Of(string schema) {
			if (_types == null) {
				_types = AppDomain.CurrentDomain.GetAssemblies().Where(assembly => !assembly.GlobalAssemblyCache)
					.SelectMany(assembly => assembly.GetTypes())
					.SelectMany(type => type.GetCustomAttributes(typeof(EntityEventListenerAttribute), false)
						.Select(attribute => new { type, name = ((EntityEventListenerAttribute)attribute).SchemaName }))
					.GroupBy(found => found.name).ToDictionary(group => group.Key, group => group.Select(found => found.type).ToList());
			}
			List<Type> types;
			return _types.TryGetValue(schema, out types)
				? types.Select(type => (BaseEntityEventListener)Activator.CreateInstance(type)).ToList()
				: new List<BaseEntityEventListener>();
		}
	}
}
