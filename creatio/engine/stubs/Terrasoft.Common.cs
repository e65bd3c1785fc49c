// Stand-in for Terrasoft.Common.
using System;
using System.Data;

namespace Terrasoft.Common
{
	public static class DBUtilities
	{
		/// <summary>A missing value reads as the default of the type.</summary>
		public static T GetColumnValue<T>(this IDataReader reader, string name) {
			object value = reader[name];
			if (value == null || value is DBNull) {
				return default(T);
			}
			if (value is T) {
				return (T)value;
			}
			return (T)Convert.ChangeType(value, typeof(T), System.Globalization.CultureInfo.InvariantCulture);
		}
	}

	public class DbOperationException : Exception
	{
		public DbOperationException(string message) : base(message) {
		}
	}
}
