namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.IO;
	using System.Net;
	using System.Text;
	using System.Threading;
	using Terrasoft.Common;
	using Terrasoft.Core;
	using Terrasoft.Core.DB;
	using Column = Terrasoft.Core.DB.Column;
	using Insert = Terrasoft.Core.DB.Insert;
	using Select = Terrasoft.Core.DB.Select;
	using SystemSettings = Terrasoft.Core.Configuration.SysSettings;
	using Update = Terrasoft.Core.DB.Update;

	/// <summary>A row of the outbox before it has a number.</summary>
	public class MaxOutboxRow
	{
		public string Kind = "";
		public string ChannelSource = "";
		public Guid ChatId;
		public Guid ParentChatId;
		public string Recipient = "";
		public Guid AgentId;
		public string AgentName = "";
		public Guid MessageId;
		public string MessageType = "";
		public string Text = "";
		public string Files = "";
		public string Reason = "";
	}

	/// <summary>
	/// Writes rows for the relay. The number and the row are one transaction, and the counter's row stays locked until its
	/// commit: numbers become visible in order.
	/// </summary>
	public class MaxOutboxWriter
	{
		private readonly UserConnection _connection;

		public MaxOutboxWriter(UserConnection userConnection) {
			_connection = userConnection;
		}

		/// <summary>Answers the number; throws where nothing was written.</summary>
		public int Write(MaxOutboxRow row) {
			int seq;
			using (DBExecutor executor = _connection.EnsureDBConnection()) {
				executor.StartTransaction();
				try {
					seq = NextSeq(executor);
					InsertRow(executor, row, seq);
					executor.CommitTransaction();
				} catch {
					executor.RollbackTransaction();
					throw;
				}
			}
			Hint(row.ChannelSource, seq);
			return seq;
		}

		private int NextSeq(DBExecutor executor) {
			var update = new Update(_connection, MaxNames.Counter)
				.Set("LastSeq", QueryColumnExpression.Add(new QueryColumnExpression("LastSeq"), Column.Parameter(1)))
				.Where("Name").IsEqual(Column.Parameter(MaxNames.OutboxCounter)) as Update;
			// Inside the transaction that the executor has begun.
			if (update.Execute() == 0) {
				int first = HighestSeq() + 1;
				DateTime now = DateTime.UtcNow;
				new Insert(_connection).Into(MaxNames.Counter)
					.Set("Id", Column.Parameter(MaxNames.OutboxCounterId))
					.Set("Name", Column.Parameter(MaxNames.OutboxCounter))
					.Set("LastSeq", Column.Parameter(first))
					.Set("CreatedOn", Column.Parameter(now))
					.Set("ModifiedOn", Column.Parameter(now))
					.Execute(executor);
				return first;
			}
			// Read by the writing executor: never of a replica.
			var select = new Select(_connection).Column("LastSeq").From(MaxNames.Counter)
				.Where("Name").IsEqual(Column.Parameter(MaxNames.OutboxCounter)) as Select;
			return select.ExecuteScalar<int>(executor);
		}

		/// <summary>Only where the counter's row is lost, so never on a site that is in order.</summary>
		private int HighestSeq() {
			int highest = 0;
			var select = new Select(_connection).Column("Seq").From(MaxNames.Outbox) as Select;
			select.ExecuteReader(reader => highest = Math.Max(highest, reader.GetColumnValue<int>("Seq")));
			return highest;
		}

		private void InsertRow(DBExecutor executor, MaxOutboxRow row, int seq) {
			DateTime now = DateTime.UtcNow;
			var insert = new Insert(_connection).Into(MaxNames.Outbox)
				.Set("Id", Column.Parameter(Guid.NewGuid()))
				.Set("CreatedOn", Column.Parameter(now))
				.Set("ModifiedOn", Column.Parameter(now))
				.Set("Seq", Column.Parameter(seq))
				.Set("Kind", Column.Parameter(row.Kind))
				.Set("ChannelSource", Column.Parameter(row.ChannelSource))
				.Set("ChatId", Column.Parameter(row.ChatId))
				.Set("ParentChatId", Column.Parameter(row.ParentChatId))
				.Set("Recipient", Column.Parameter(row.Recipient))
				.Set("AgentId", Column.Parameter(row.AgentId))
				.Set("AgentName", Column.Parameter(MaxDatabase.Cut(row.AgentName, MaxNames.MediumText)))
				.Set("MessageId", Column.Parameter(row.MessageId))
				.Set("MessageType", Column.Parameter(row.MessageType))
				.Set("Text", Column.Parameter(row.Text ?? ""))
				.Set("Files", Column.Parameter(row.Files ?? ""))
				.Set("Reason", Column.Parameter(row.Reason))
				.Set("State", Column.Parameter(MaxNames.Pending))
				.Set("Error", Column.Parameter("")) as Insert;
			insert.Execute(executor);
		}

		/// <summary>Tells the relay to look now. In the background, at most once: nothing depends on it.</summary>
		private void Hint(string channelSource, int seq) {
			try {
				MaxChannelRow channel = MaxDatabase.ChannelBySource(_connection, channelSource);
				string url = channel == null ? "" : NotifyUrl(channel.SettingsId);
				string secret = url.Length == 0 ? "" : SystemSettings.GetValue(_connection, MaxNames.NotifySecret, "");
				if (string.IsNullOrEmpty(secret)) {
					return;
				}
				ThreadPool.QueueUserWorkItem(ignored => Post(url, secret, channelSource, seq));
			} catch (Exception error) {
				MaxLog.Warn("The relay was not told of the outbox row " + seq + "; it will find it by itself.", error);
			}
		}

		private string NotifyUrl(Guid settingsId) {
			string url = "";
			var select = new Select(_connection)
				.Column("NotifyUrl")
				.From(MaxNames.Settings)
				.Where("Id").IsEqual(Column.Parameter(settingsId)) as Select;
			select.ExecuteReader(reader => url = reader.GetColumnValue<string>("NotifyUrl") ?? "");
			return url;
		}

		private static void Post(string url, string secret, string channelSource, int seq) {
			try {
				// The row may still wait for the commit of what has surrounded it.
				Thread.Sleep(100);
				var request = (HttpWebRequest)WebRequest.Create(url);
				request.Method = "POST";
				request.ContentType = "application/json";
				request.Timeout = MaxNames.HintMilliseconds;
				request.ReadWriteTimeout = MaxNames.HintMilliseconds;
				request.AllowAutoRedirect = false;
				request.Headers["Authorization"] = "Bearer " + secret;
				byte[] body = Encoding.UTF8.GetBytes(
					"{\"channelSource\":" + MaxJson.Text(channelSource) + ",\"seq\":" + seq + "}");
				using (Stream stream = request.GetRequestStream()) {
					stream.Write(body, 0, body.Length);
				}
				using (request.GetResponse()) {
				}
			} catch (Exception error) {
				// The address, without the secret.
				MaxLog.Warn("The hint to " + url + " was not taken: " + error.Message, null);
			}
		}
	}
}
