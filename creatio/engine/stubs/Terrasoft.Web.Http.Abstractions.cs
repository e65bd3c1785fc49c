// Stand-in for Terrasoft.Web.Http.Abstractions.
using System;
using System.Collections.Specialized;

namespace Terrasoft.Web.Http.Abstractions
{
	public interface IHttpContextAccessor
	{
		HttpContext GetInstance();
	}

	public class HttpRequest
	{
		public NameValueCollection QueryString { get; set; }
	}

	public class HttpResponse
	{
		public int StatusCode { get; set; }
	}

	public class HttpContext
	{
		[ThreadStatic]
		private static HttpContext _current;

		public static HttpContext Current {
			get { return _current; }
			set { _current = value; }
		}

		public HttpRequest Request { get; set; }
		public HttpResponse Response { get; set; }
	}

	public class HttpContextAccessor : IHttpContextAccessor
	{
		public HttpContext GetInstance() {
			return HttpContext.Current;
		}
	}
}
