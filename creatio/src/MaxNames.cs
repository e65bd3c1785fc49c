namespace Terrasoft.Configuration.MaxChannel
{
	using System;

	/// <summary>
	/// Every name, id and limit of the package, once. README.md beside this folder has the columns of its objects.
	/// </summary>
	public static class MaxNames
	{
		/// <summary>Equals PackageVersion in descriptor.json; the installer waits until ping answers with it.</summary>
		public const string Version = "1.0.0";
		public const int Contract = 1;

		public const string PackageName = "MaxChannel";
		public const string ServiceName = "MaxChannelService";
		public const string LoggerName = "MaxChannel";

		/// <summary>
		/// Workers are bound under this name: agents' answers carry no channel name, so that the library takes the name of
		/// the channel type instead.
		/// </summary>
		public const string Messenger = "ThirdParty";

		/// <summary>Names of the package's objects.</summary>
		public const string Settings = "MaxChannelSettings";
		public const string Outbox = "MaxOutbox";
		public const string Inbound = "MaxInbound";
		public const string Sender = "MaxSender";
		public const string Counter = "MaxCounter";

		/// <summary>The row of MaxCounter that numbers the outbox.</summary>
		public const string OutboxCounter = "MaxOutbox";
		public static readonly Guid OutboxCounterId = new Guid("5cfee3d2-3c5f-5c0b-8f43-5d5e2a3c2f19");

		/// <summary>The row of ChannelProvider that comes with the package.</summary>
		public static readonly Guid Provider = new Guid("889213f3-6d22-55a4-8421-4a8a63914f71");

		/// <summary>System operation: who may call the service. The technical user needs it, nobody else does.</summary>
		public const string Operation = "CanUseMaxChannel";
		/// <summary>System setting (secure text): the bearer of the hints to NotifyUrl.</summary>
		public const string NotifySecret = "MaxChannelNotifySecret";
		/// <summary>Stock system setting: the largest file, in megabytes.</summary>
		public const string MaxFileSize = "MaxFileSize";
		public const int MaxFileMegabytes = 10;

		/// <summary>Customers are "max:[id]", channels "max-bot:[id]".</summary>
		public const string CustomerPrefix = "max:";

		/// <summary>Stock chat statuses; the last two exist since 8.2.</summary>
		public static readonly Guid Waiting = new Guid("79bccffa-8c8b-4863-b376-a69d2244182b");
		public static readonly Guid InProgress = new Guid("81737bdd-60c7-4ef7-bb75-52c53d5c38c1");
		public static readonly Guid Completed = new Guid("a1b0184b-0a54-4a47-ba08-a5772105d3b2");
		public static readonly Guid BotProcessing = new Guid("b05fbf72-69ed-41a7-be7c-af3ec13b08c7");
		public static readonly Guid CompletedByBot = new Guid("8e7cc4aa-261b-4f62-9c7b-7d7f1e68c86a");
		public static readonly Guid HandedOverToAgent = new Guid("179601ae-58d9-425d-880b-fa4b3aace644");
		/// <summary>Stock file type "File".</summary>
		public static readonly Guid FileType = new Guid("529bc2f8-0ee0-df11-971b-001d60e938c6");

		/// <summary>States of a key in MaxInbound: known, handed on, stored.</summary>
		public const string KeyQueued = "Queued";
		public const string KeyTaken = "Taken";
		public const string KeyDone = "Done";

		/// <summary>States of a row in MaxOutbox.</summary>
		public const string Pending = "Pending";
		public const string Delivered = "Delivered";
		public const string Failed = "Failed";
		public const string Uncertain = "Uncertain";

		public const string KindMessage = "message";
		public const string KindAccepted = "accepted";
		public const string KindTransferred = "transferred";
		public const string KindClosed = "closed";

		public const string ReasonAgent = "agent";
		public const string ReasonTimeout = "timeout";
		public const string ReasonRelay = "relay";

		/// <summary>After so many seconds a taken key, or a customer's lock, belongs to a request that has died.</summary>
		public const int TakenSeconds = 120;
		public const int KeepDays = 30;
		public const int HintMilliseconds = 2000;

		public const int ShortText = 50;
		public const int MediumText = 250;

		/// <summary>"Is it open" is asked of a positive list: 8.2 has statuses that never become Completed.</summary>
		public static bool IsOpen(Guid status) {
			return status == Waiting || status == InProgress || status == BotProcessing;
		}
	}
}
