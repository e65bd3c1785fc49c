// Stand-in for Terrasoft.ServiceModel.Primitives of a .NET site. It has no WebOperationContext, as there.
using System;

namespace System.ServiceModel
{
	[AttributeUsage(AttributeTargets.Class | AttributeTargets.Interface)]
	public class ServiceContractAttribute : Attribute
	{
	}

	[AttributeUsage(AttributeTargets.Method)]
	public class OperationContractAttribute : Attribute
	{
	}
}

namespace System.ServiceModel.Activation
{
	public enum AspNetCompatibilityRequirementsMode
	{
		NotAllowed,
		Allowed,
		Required
	}

	[AttributeUsage(AttributeTargets.Class)]
	public class AspNetCompatibilityRequirementsAttribute : Attribute
	{
		public AspNetCompatibilityRequirementsMode RequirementsMode { get; set; }
	}
}

namespace System.ServiceModel.Web
{
	public enum WebMessageFormat
	{
		Xml,
		Json
	}

	public enum WebMessageBodyStyle
	{
		Bare,
		Wrapped,
		WrappedRequest,
		WrappedResponse
	}

	[AttributeUsage(AttributeTargets.Method)]
	public class WebInvokeAttribute : Attribute
	{
		public string Method { get; set; }
		public string UriTemplate { get; set; }
		public WebMessageBodyStyle BodyStyle { get; set; }
		public WebMessageFormat RequestFormat { get; set; }
		public WebMessageFormat ResponseFormat { get; set; }
	}
}
