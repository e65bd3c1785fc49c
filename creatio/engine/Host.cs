// A small HTTP server around the package: its service, the stock services and the OData that the relay uses, and /control.
// mono host.exe --site 8.1|8.2 --objects FILE --journal FILE [--port N] [--ends-with stdin]; prints "listening on URL" when it serves.
using System;
using System.Collections.Generic;
using System.Collections.Specialized;
using System.IO;
using System.Linq;
using System.Net;
using System.Reflection;
using System.Runtime.Serialization.Json;
using System.ServiceModel.Web;
using System.Text;
using System.Threading;
using Terrasoft.Common;
using Terrasoft.Configuration.Omnichannel.Messaging;
using Terrasoft.Core;
using Terrasoft.Web.Common;
using Terrasoft.Web.Http.Abstractions;

namespace Engine
{
	internal static class Host
	{
#if NETFRAMEWORK
		private const string Prefix = "/0";
#else
		private const string Prefix = "";
#endif
		private const string Token = "invented-engine-token";

		private static readonly Dictionary<string, Guid> Sessions = new Dictionary<string, Guid>();

		private static int Main(string[] arguments) {
			var options = new Dictionary<string, string>();
			for (int index = 0; index + 1 < arguments.Length; index += 2) {
				options[arguments[index].TrimStart('-')] = arguments[index + 1];
			}
			Switches.Is82 = options["site"] == "8.2";
			ThreadPool.SetMinThreads(64, 64);
			// Found by reflection as on a site: nothing here names a class of the package.
			Assembly package = Assembly.Load("MaxChannel");
			Site.Define(options["objects"]);
			Database.Open(options["journal"]);
			Site.Fill();
			int port = options.ContainsKey("port") ? int.Parse(options["port"]) : FreePort();
			if (options.ContainsKey("ends-with")) {
				new Thread(() => {
					while (Console.In.Read() >= 0) {
					}
					Environment.Exit(0);
				}) { IsBackground = true }.Start();
			}
			var listener = new HttpListener();
			listener.Prefixes.Add("http://127.0.0.1:" + port + "/");
			listener.Start();
			Console.WriteLine("listening on http://127.0.0.1:" + port);
			Console.Out.Flush();
			GC.KeepAlive(new Timer(ignored => Control.CloseExpired(), null, 5000, 5000));
			while (true) {
				HttpListenerContext context = listener.GetContext();
				ThreadPool.QueueUserWorkItem(ignored => Serve(context, package));
			}
		}

		private static int FreePort() {
			var free = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
			free.Start();
			int port = ((IPEndPoint)free.LocalEndpoint).Port;
			free.Stop();
			return port;
		}

		private sealed class Reply
		{
			public int Status = 200;
			public string Type = "application/json; charset=utf-8";
			public byte[] Body = new byte[0];
			public readonly List<string> Cookies = new List<string>();

			public static Reply Json(int status, object value) {
				return new Reply { Status = status, Body = value == null ? new byte[0] : Encoding.UTF8.GetBytes(Engine.Json.Write(value)) };
			}

			public static Reply Html(int status, string text) {
				return new Reply {
					Status = status, Type = "text/html", Body = Encoding.UTF8.GetBytes("<!DOCTYPE html><html><body>" + text + "</body></html>")
				};
			}
		}

		private static void Serve(HttpListenerContext context, Assembly package) {
			Reply reply;
			try {
				reply = Answer(context.Request, package);
			} catch (Refused refused) {
				reply = Reply.Json(refused.Status, new Dictionary<string, object> {
					{ "error", new Dictionary<string, object> { { "code", "" }, { "message", refused.Message } } }
				});
			} catch (Exception error) {
				Exception inner = error is TargetInvocationException ? error.InnerException : error;
				reply = Reply.Json(500, new Dictionary<string, object> {
					{ "error", new Dictionary<string, object> { { "code", "" }, { "message", inner.Message } } }
				});
			}
			try {
				context.Response.StatusCode = reply.Status;
				reply.Cookies.ForEach(cookie => context.Response.AppendHeader("Set-Cookie", cookie));
				if (reply.Status != 204) {
					context.Response.ContentType = reply.Type;
					context.Response.ContentLength64 = reply.Body.Length;
					context.Response.OutputStream.Write(reply.Body, 0, reply.Body.Length);
				}
				context.Response.Close();
			} catch (Exception) {
				// The caller has gone away.
			}
		}

		private static Dictionary<string, string> Query(HttpListenerRequest request) {
			var query = new Dictionary<string, string>();
			foreach (string pair in request.Url.Query.TrimStart('?').Split('&').Where(pair => pair.Length > 0)) {
				int equals = pair.IndexOf('=');
				string name = equals < 0 ? pair : pair.Substring(0, equals);
				query[Uri.UnescapeDataString(name)] = equals < 0 ? "" : Uri.UnescapeDataString(pair.Substring(equals + 1));
			}
			return query;
		}

		private static string Text(HttpListenerRequest request) {
			using (var reader = new StreamReader(request.InputStream, Encoding.UTF8)) {
				return reader.ReadToEnd();
			}
		}

		private static Reply Answer(HttpListenerRequest request, Assembly package) {
			string path = request.Url.AbsolutePath;
			if (path == "/connect/token") {
				string form = Text(request);
				bool isRight = form.Contains(Site.ClientSecret) || (request.Headers["Authorization"] ?? "").StartsWith("Basic ");
				return isRight
					? Reply.Json(200, new Dictionary<string, object> { { "access_token", Token }, { "expires_in", 3600 }, { "token_type", "Bearer" } })
					: Reply.Json(400, new Dictionary<string, object> { { "error", "invalid_client" } });
			}
			if (path.StartsWith("/control")) {
				string route = path.Substring("/control".Length).TrimStart('/');
				if (request.HttpMethod == "GET" && route.StartsWith("files/")) {
					return File(route.Substring("files/".Length));
				}
				return Reply.Json(200, Control.Answer(request.HttpMethod, route, Query(request), Text(request)));
			}
			if (path == "/ServiceModel/AuthService.svc/Login") {
				return Login(Json.ReadObject(Text(request)));
			}
			if (!path.StartsWith(Prefix + "/")) {
				return Reply.Html(404, "Not found");
			}
			path = path.Substring(Prefix.Length + 1);
			if (path == "api/HealthCheck/Ping") {
				return Reply.Json(200, "Pong");
			}
			Guid user = Caller(request);
			if (user == Guid.Empty) {
				return Reply.Html(401, "Unauthorized");
			}
			var connection = new UserConnection(user);
			string[] parts = path.Split('/');
			if (parts[0] == "odata" && parts.Length == 2) {
				int status;
				object body = OData.Answer(request.HttpMethod, Uri.UnescapeDataString(parts[1]), Query(request), Text(request), connection, out status);
				return Reply.Json(status, body);
			}
			if (path == "rest/OmnichannelChatService/CloseActiveChat") {
				var body = Json.ReadObject(Text(request));
				new ChatRepository(connection).CloseActiveChat(new Guid((string)body["chatId"]), true);
				return Reply.Json(200, null);
			}
			if (path.StartsWith("rest/FileService/Download/OmnichannelMessageFile/")) {
				return File(parts.Last());
			}
			if (parts.Length == 3 && parts[0] == "rest") {
				return Call(request, package, parts[1], parts[2], connection);
			}
			return Reply.Html(404, "Not found");
		}

		private static Reply File(string id) {
			Row row = Database.Find("OmnichannelMessageFile", new Guid(id));
			byte[] bytes = row == null ? null : row.Get("Data") as byte[];
			return bytes == null ? Reply.Html(404, "Not found") : new Reply { Type = "application/octet-stream", Body = bytes };
		}

		private static Reply Login(Dictionary<string, object> body) {
			Row row = Database.Read("EngineLogin").FirstOrDefault(one => one.Text("Login") == (string)body["UserName"]
				&& one.Text("Password") == (string)body["UserPassword"]);
			Reply reply = Reply.Json(200, new Dictionary<string, object> { { "Code", row == null ? 1 : 0 }, { "Message", "" } });
			if (row != null) {
				string ticket = Guid.NewGuid().ToString("n");
				lock (Sessions) {
					Sessions[ticket] = row.Guid("UserId");
				}
				reply.Cookies.Add(".ASPXAUTH=" + ticket + "; path=/");
				reply.Cookies.Add("BPMCSRF=" + ticket + "; path=/");
			}
			return reply;
		}

		private static Guid Caller(HttpListenerRequest request) {
			if (request.Headers["Authorization"] == "Bearer " + Token) {
				return Site.Technical;
			}
			Cookie cookie = request.Cookies[".ASPXAUTH"];
			Guid user;
			lock (Sessions) {
				return cookie != null && Sessions.TryGetValue(cookie.Value, out user) ? user : Guid.Empty;
			}
		}

		/// <summary>A service of the package, by its name and the template of its operation.</summary>
		private static Reply Call(HttpListenerRequest request, Assembly package, string service, string operation, UserConnection caller) {
			Type type = package.GetTypes().FirstOrDefault(one => one.Name == service && typeof(BaseService).IsAssignableFrom(one));
			MethodInfo method = type == null ? null : type.GetMethods().FirstOrDefault(one =>
				one.GetCustomAttributes(typeof(WebInvokeAttribute), false).Cast<WebInvokeAttribute>().Any(invoke => invoke.UriTemplate == operation));
			if (method == null) {
				return Reply.Html(404, "Not found");
			}
			var invoked = (WebInvokeAttribute)method.GetCustomAttributes(typeof(WebInvokeAttribute), false)[0];
			if (invoked.Method != request.HttpMethod) {
				return Reply.Html(405, "Method not allowed");
			}
			BaseService.Caller = caller;
			var query = new NameValueCollection();
			foreach (var pair in Query(request)) {
				query[pair.Key] = pair.Value;
			}
			HttpContext.Current = new HttpContext {
				Request = new HttpRequest { QueryString = query }, Response = new HttpResponse { StatusCode = 200 }
			};
			ParameterInfo parameter = method.GetParameters().FirstOrDefault();
			object[] values = parameter == null ? new object[0] : new[] { Parameter(request, parameter.ParameterType) };
			object result = method.Invoke(Activator.CreateInstance(type), values);
			if (operation == "receive" || operation == "handOver") {
				Control.CountCall();
			}
			Points.Reach("beforeAnswer");
			var body = new MemoryStream();
			new DataContractJsonSerializer(method.ReturnType).WriteObject(body, result);
			return new Reply { Status = HttpContext.Current.Response.StatusCode, Body = body.ToArray() };
		}

		private static object Parameter(HttpListenerRequest request, Type type) {
			if (type == typeof(Stream)) {
				return request.InputStream;
			}
			if (!(request.ContentType ?? "").StartsWith("application/json")) {
				throw new Refused(415, "Unsupported media type");
			}
			if (Switches.BodyLimit > 0 && request.ContentLength64 > Switches.BodyLimit) {
				throw new Refused(413, "The maximum message size quota for incoming messages has been exceeded.");
			}
			try {
				return new DataContractJsonSerializer(type).ReadObject(request.InputStream);
			} catch (Exception error) {
				throw new Refused(400, "The server encountered an error processing the request: " + error.Message);
			}
		}
	}
}
