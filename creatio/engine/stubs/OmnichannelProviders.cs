// Stand-in for OmnichannelProviders.
using System;
using System.Collections.Generic;
using System.IO;

namespace OmnichannelProviders.Domain.Entities
{
	public enum ChannelType
	{
		Facebook,
		Telegram,
		ThirdParty
	}

	public enum MessageType
	{
		Text,
		File,
		Image,
		Audio,
		Video,
		System
	}

	public enum MessageDirection
	{
		Incoming = 1,
		Outcoming = 2
	}

	public enum ContactIdentificationType
	{
		Name,
		Phone
	}

	[Serializable]
	public class MessageAttachment
	{
		public string FileName { get; set; }
		public string FileId { get; set; }
		public string UploadUrl { get; set; }
		public string MimeType { get; set; }
		public MessageType FileType { get; set; }
		public int FileSize { get; set; }
		public MemoryStream Content { get; set; }
		public Guid MessageId { get; set; }
	}

	[Serializable]
	public class UnifiedMessage
	{
		public Guid Id { get; set; }
		public string Sender { get; set; }
		public string Recipient { get; set; }
		public string Message { get; set; }
		public string ChatId { get; set; }
		public string ChannelId { get; set; }
		public long Timestamp { get; set; }
		public ChannelType Source { get; set; }
		public MessageType MessageType { get; set; }
		public MessageDirection MessageDirection { get; set; }
		public List<MessageAttachment> Attachments { get; set; }
		public bool IsStandBy { get; set; }
		public bool IsEcho { get; set; }
		public bool IsGuestUser { get; set; }
		public Dictionary<ContactIdentificationType, string> ContactIdentification { get; set; }
	}

	public class ProfileData
	{
		public string Id { get; set; }
		public string FirstName { get; set; }
		public string LastName { get; set; }
		public string ProfilePhotoUrl { get; set; }
		public Stream ProfilePhoto { get; set; }
	}
}

namespace OmnichannelProviders.MessageWorkers
{
	using OmnichannelProviders.Domain.Entities;

	public interface IOutcomeMessageWorker
	{
		string SendMessage(UnifiedMessage unifiedMessage, out bool success);
		string PassControlToPrimaryReceiver(UnifiedMessage message);
	}
}

namespace OmnichannelProviders.Interfaces
{
	using OmnichannelProviders.Domain.Entities;

	public interface IProfileDataProvider
	{
		ProfileData GetProfileDataByProfileId(string profileId, string channelId);
	}
}

namespace OmnichannelProviders
{
	using OmnichannelProviders.Domain.Entities;

	public interface IAttachmentsLoadWorker
	{
		void Load(MessageAttachment incomeAttachment, UnifiedMessage message);
	}
}
