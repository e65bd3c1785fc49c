// Stand-in for Terrasoft.Web.Common.
using System;
using System.Runtime.CompilerServices;
using Terrasoft.Core;
using Terrasoft.Web.Http.Abstractions;

[assembly: InternalsVisibleTo("engine")]
[assembly: InternalsVisibleTo("Terrasoft.Configuration")]

namespace Terrasoft.Web.Common
{
	public abstract class BaseService
	{
		[ThreadStatic]
		internal static UserConnection Caller;

		private UserConnection _connection;

		protected BaseService() {
			HttpContextAccessor = new HttpContextAccessor();
		}

		protected BaseService(UserConnection userConnection) : this() {
			_connection = userConnection;
		}

		public virtual UserConnection UserConnection {
			get { return _connection ?? (_connection = Caller); }
			set { _connection = value; }
		}

		public AppConnection AppConnection {
			get { return UserConnection.AppConnection; }
		}

		public IHttpContextAccessor HttpContextAccessor { get; set; }
	}
}

namespace Terrasoft.Web.Common.ServiceRouting
{
	[AttributeUsage(AttributeTargets.Class)]
	public class DefaultServiceRouteAttribute : Attribute
	{
	}
}

#if !NETFRAMEWORK
namespace System.Web.SessionState
{
	public interface IReadOnlySessionState
	{
	}
}
#endif
