namespace Terrasoft.Configuration.MaxChannel
{
	using System;
	using System.Collections.Generic;
	using System.Threading;
	using Terrasoft.Core;
	using Column = Terrasoft.Core.DB.Column;
	using Delete = Terrasoft.Core.DB.Delete;

	/// <summary>
	/// Deletes what is finished and older than 30 days, with every hundredth call instead of by a scheduler, which an assembly
	/// package cannot reference.
	/// </summary>
	public static class MaxCleanup
	{
		private const int Every = 100;

		private static int _calls;

		/// <summary>A failure is logged: cleaning up is never worth a call.</summary>
		public static void Now(UserConnection connection) {
			if (Interlocked.Increment(ref _calls) % Every != 1) {
				return;
			}
			try {
				DateTime before = DateTime.UtcNow.AddDays(-MaxNames.KeepDays);
				// Lists: so the stock packages call Column.Parameters too; an array may fit two of its forms.
				var finished = new List<string> { MaxNames.Delivered, MaxNames.Failed, MaxNames.Uncertain };
				// What still waits after so long was given up by the relay.
				var ended = new List<string> { MaxNames.KeyDone, MaxNames.KeyQueued };
				(new Delete(connection).From(MaxNames.Outbox)
					.Where("State").In(Column.Parameters(finished))
					.And("CreatedOn").IsLess(Column.Parameter(before)) as Delete).Execute();
				(new Delete(connection).From(MaxNames.Inbound)
					.Where("State").In(Column.Parameters(ended))
					.And("CreatedOn").IsLess(Column.Parameter(before)) as Delete).Execute();
			} catch (Exception error) {
				MaxLog.Warn("Old rows were not deleted; it is tried again later.", error);
			}
		}
	}
}
