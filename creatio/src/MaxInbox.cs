namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Globalization;
	using Terrasoft.Common;
	using Terrasoft.Core;
	using Column = Terrasoft.Core.DB.Column;
	using Delete = Terrasoft.Core.DB.Delete;
	using Insert = Terrasoft.Core.DB.Insert;
	using Select = Terrasoft.Core.DB.Select;
	using Update = Terrasoft.Core.DB.Update;

	/// <summary>What is known of one call of "receive".</summary>
	public class MaxKey
	{
		public Guid Id;
		public string State;
		public DateTime TakenOn;
		public Guid ChatId;
		public Guid ContactId;
	}

	/// <summary>
	/// The keys of what the relay has sent, each a row with a unique index over channel and external id: Queued (known, handed
	/// to nobody), Taken (being handed to the library), Done (stored, with the first answer). The message's own id is made
	/// from the key, so that the library's primary key refuses a second copy even where all of this was lost.
	/// </summary>
	public class MaxInbox
	{
		private readonly UserConnection _connection;

		public MaxInbox(UserConnection userConnection) {
			_connection = userConnection;
		}

		public static Guid MessageId(string channelSource, string externalId) {
			return MaxDatabase.NamedId("message/" + channelSource + "/" + externalId);
		}

		/// <summary>Null where the key is new.</summary>
		public MaxKey Find(string channelSource, string externalId) {
			MaxKey key = null;
			var select = new Select(_connection)
				.Column("Id").Column("State").Column("TakenOn").Column("ChatId").Column("ContactId")
				.From(MaxNames.Inbound)
				.Where("ChannelSource").IsEqual(Column.Parameter(channelSource))
				.And("ExternalId").IsEqual(Column.Parameter(externalId)) as Select;
			select.ExecuteReader(reader => key = new MaxKey {
				Id = reader.GetColumnValue<Guid>("Id"),
				State = reader.GetColumnValue<string>("State"),
				TakenOn = reader.GetColumnValue<DateTime>("TakenOn"),
				ChatId = reader.GetColumnValue<Guid>("ChatId"),
				ContactId = reader.GetColumnValue<Guid>("ContactId")
			});
			return key;
		}

		/// <summary>Makes a key in the state Queued; false where another request was faster.</summary>
		public bool Add(MaxReceiveRequest request) {
			return Add(request.ChannelSource, request.ExternalId, request.Sender, request.Author, request.ReplacesExternalId,
				MaxNames.KeyQueued);
		}

		/// <summary>
		/// The name under which the hand-over of a chat is on record. No external id begins so: those are ids of MAX, or "out:".
		/// </summary>
		private static string HandOverName(Guid chatId) {
			return "handOver/" + chatId;
		}

		/// <summary>Puts the hand-over of a chat on record before the library is asked for it.</summary>
		public MaxKey BeginHandOver(string channelSource, string sender, Guid chatId) {
			Add(channelSource, HandOverName(chatId), sender, "handOver", "", MaxNames.KeyTaken);
			return Find(channelSource, HandOverName(chatId));
		}

		/// <summary>Whether a hand-over was begun and, as far as the record says, not ended.</summary>
		public bool IsHandOverOpen(string channelSource, Guid chatId) {
			MaxKey key = Find(channelSource, HandOverName(chatId));
			return key != null && key.State != MaxNames.KeyDone;
		}

		private bool Add(string channelSource, string externalId, string sender, string author, string replaces, string state) {
			try {
				AddRow(channelSource, externalId, sender, author, replaces, state);
				return true;
			} catch (Exception) {
				if (Find(channelSource, externalId) != null) {
					return false;
				}
			}
			// Another request had the key and has given it back meanwhile; or something is wrong, and then it fails again.
			AddRow(channelSource, externalId, sender, author, replaces, state);
			return true;
		}

		private void AddRow(string channelSource, string externalId, string sender, string author, string replaces,
				string state) {
			DateTime now = DateTime.UtcNow;
			var insert = new Insert(_connection).Into(MaxNames.Inbound)
				.Set("Id", Column.Parameter(Guid.NewGuid()))
				.Set("CreatedOn", Column.Parameter(now))
				.Set("ModifiedOn", Column.Parameter(now))
				.Set("ChannelSource", Column.Parameter(channelSource))
				.Set("ExternalId", Column.Parameter(externalId))
				.Set("Sender", Column.Parameter(sender))
				.Set("ReplacesExternalId", Column.Parameter(replaces ?? ""))
				.Set("Author", Column.Parameter(author))
				.Set("MessageId", Column.Parameter(MessageId(channelSource, externalId)))
				.Set("State", Column.Parameter(state))
				.Set("TakenOn", Column.Parameter(now))
				.Set("ChatId", Column.Parameter(Guid.Empty))
				.Set("ContactId", Column.Parameter(Guid.Empty));
			insert.Execute();
		}

		/// <summary>From the state that was read to Taken, by one statement; false where another request was faster.</summary>
		public bool Take(MaxKey key) {
			var update = new Update(_connection, MaxNames.Inbound)
				.Set("State", Column.Parameter(MaxNames.KeyTaken))
				.Set("TakenOn", Column.Parameter(DateTime.UtcNow))
				.Set("ModifiedOn", Column.Parameter(DateTime.UtcNow))
				.Where("Id").IsEqual(Column.Parameter(key.Id))
				.And("State").IsEqual(Column.Parameter(key.State)) as Update;
			if (key.State == MaxNames.KeyTaken) {
				update = update.And("TakenOn").IsLess(Column.Parameter(Stale())) as Update;
			}
			if (update.Execute() != 1) {
				return false;
			}
			key.State = MaxNames.KeyTaken;
			return true;
		}

		public static bool IsStale(MaxKey key) {
			return key.TakenOn <= Stale();
		}

		private static DateTime Stale() {
			return DateTime.UtcNow.AddSeconds(-MaxNames.TakenSeconds);
		}

		public void Finish(MaxKey key, Guid chatId, Guid contactId) {
			var update = new Update(_connection, MaxNames.Inbound)
				.Set("State", Column.Parameter(MaxNames.KeyDone))
				.Set("ChatId", Column.Parameter(chatId))
				.Set("ContactId", Column.Parameter(contactId))
				.Set("ModifiedOn", Column.Parameter(DateTime.UtcNow))
				.Where("Id").IsEqual(Column.Parameter(key.Id)) as Update;
			update.Execute();
			key.State = MaxNames.KeyDone;
			key.ChatId = chatId;
			key.ContactId = contactId;
		}

		/// <summary>
		/// What could not be stored is as if it had never come; false where another request has gone on with the key.
		/// </summary>
		public bool Free(MaxKey key) {
			(new Delete(_connection).From(MaxNames.Inbound)
				.Where("Id").IsEqual(Column.Parameter(key.Id))
				.And("State").IsEqual(Column.Parameter(key.State)) as Delete).Execute();
			bool stands = false;
			var select = new Select(_connection)
				.Column("Id")
				.From(MaxNames.Inbound)
				.Where("Id").IsEqual(Column.Parameter(key.Id)) as Select;
			select.ExecuteReader(reader => stands = true);
			return !stands;
		}
	}

	/// <summary>
	/// A customer's row: who works for him, and the time stamp that he has come to. The library's own lock on a chat is
	/// released also by whoever never had it; this one is a single statement of the database.
	/// </summary>
	public class MaxSenderLock
	{
		private readonly UserConnection _connection;
		private readonly string _channelSource;
		private readonly string _sender;
		private readonly string _token = Guid.NewGuid().ToString();

		public MaxSenderLock(UserConnection userConnection, string channelSource, string sender) {
			_connection = userConnection;
			_channelSource = channelSource;
			_sender = sender;
		}

		/// <summary>The customer's last time stamp, 0 for a new one.</summary>
		public long LastTimestamp() {
			long last;
			return Read(out last) ? last : 0;
		}

		/// <summary>False where another request works for the customer. A request that has died holds it for 120 s.</summary>
		public bool TryAcquire() {
			if (TakeRow(false) || TakeRow(true)) {
				return true;
			}
			long last;
			if (Read(out last)) {
				return false;
			}
			AddRow();
			return TakeRow(false);
		}

		public void Release() {
			var update = Own(new Update(_connection, MaxNames.Sender).Set("LockedBy", Column.Parameter("")));
			update.Execute();
		}

		/// <summary>Only under the lock.</summary>
		public void SetTimestamp(long timestamp) {
			string text = timestamp.ToString(CultureInfo.InvariantCulture);
			var update = Own(new Update(_connection, MaxNames.Sender).Set("LastTimestamp", Column.Parameter(text)));
			update.Execute();
		}

		private Update Own(Update update) {
			return update
				.Where("ChannelSource").IsEqual(Column.Parameter(_channelSource))
				.And("Sender").IsEqual(Column.Parameter(_sender))
				.And("LockedBy").IsEqual(Column.Parameter(_token)) as Update;
		}

		/// <summary>One statement, so that one of two requests gets it.</summary>
		private bool TakeRow(bool ofDead) {
			DateTime now = DateTime.UtcNow;
			var update = new Update(_connection, MaxNames.Sender)
				.Set("LockedBy", Column.Parameter(_token))
				.Set("LockedOn", Column.Parameter(now))
				.Set("UserId", Column.Parameter(_connection.CurrentUser.Id))
				.Set("ModifiedOn", Column.Parameter(now))
				.Where("ChannelSource").IsEqual(Column.Parameter(_channelSource))
				.And("Sender").IsEqual(Column.Parameter(_sender)) as Update;
			update = (ofDead
				? update.And("LockedOn").IsLess(Column.Parameter(now.AddSeconds(-MaxNames.TakenSeconds)))
				: update.And("LockedBy").IsEqual(Column.Parameter(""))) as Update;
			return update.Execute() == 1;
		}

		private bool Read(out long last) {
			bool found = false;
			long value = 0;
			var select = new Select(_connection)
				.Column("LastTimestamp")
				.From(MaxNames.Sender)
				.Where("ChannelSource").IsEqual(Column.Parameter(_channelSource))
				.And("Sender").IsEqual(Column.Parameter(_sender)) as Select;
			select.ExecuteReader(reader => {
				found = true;
				string text = reader.GetColumnValue<string>("LastTimestamp");
				if (!long.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out value)) {
					value = 0;
				}
			});
			last = value;
			return found;
		}

		private void AddRow() {
			DateTime now = DateTime.UtcNow;
			var insert = new Insert(_connection).Into(MaxNames.Sender)
				.Set("Id", Column.Parameter(Guid.NewGuid()))
				.Set("CreatedOn", Column.Parameter(now))
				.Set("ModifiedOn", Column.Parameter(now))
				.Set("ChannelSource", Column.Parameter(_channelSource))
				.Set("Sender", Column.Parameter(_sender))
				.Set("LastTimestamp", Column.Parameter("0"))
				.Set("LockedBy", Column.Parameter(""))
				.Set("LockedOn", Column.Parameter(now))
				.Set("UserId", Column.Parameter(_connection.CurrentUser.Id)) as Insert;
			try {
				insert.Execute();
			} catch (Exception) {
				long last;
				if (!Read(out last)) {
					throw;
				}
			}
		}
	}
}
