// Stand-in for Common.Logging: writes to standard error, so that a failing test shows what the package has logged.
using System;

namespace Common.Logging
{
	public interface ILog
	{
		void Debug(object message);
		void Info(object message);
		void Warn(object message);
		void Warn(object message, Exception exception);
		void Error(object message);
		void Error(object message, Exception exception);
		void ErrorFormat(string format, params object[] args);
	}

	public static class LogManager
	{
		public static ILog GetLogger(string name) {
			return new Lines { Name = name };
		}

		private class Lines : ILog
		{
			public string Name;

			private void Write(string level, object message, Exception exception) {
				Console.Error.WriteLine(level + " " + Name + ": " + message + (exception == null ? "" : ": " + exception));
			}

			public void Debug(object message) {
			}

			public void Info(object message) {
			}

			public void Warn(object message) {
				Write("WARN", message, null);
			}

			public void Warn(object message, Exception exception) {
				Write("WARN", message, exception);
			}

			public void Error(object message) {
				Write("ERROR", message, null);
			}

			public void Error(object message, Exception exception) {
				Write("ERROR", message, exception);
			}

			public void ErrorFormat(string format, params object[] args) {
				Write("ERROR", string.Format(format, args), null);
			}
		}
	}
}
