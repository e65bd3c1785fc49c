//! A customer's file: fetched from MAX, and put into the CRM before the message that it belongs to.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use url::Url;

use super::attempt::failure;
use super::{Attempt, Head, Verdict, add_line};
use crate::creatio::{self, FileUpload, MessageType};
use crate::max;
use crate::relay::active::Active;
use crate::relay::lanes::Outcome;
use crate::relay::pause;
use crate::relay::render::{self, Incoming, IncomingFile, StoredFile};
use crate::relay::state::Shared;
use crate::relay::store::to_crm::CrmTask;
use crate::time::Millis;

/// How often the fetching of one file is tried before the message goes without it: of one that
/// fails while others come, and of one that fails while none comes, which may be an outage of the
/// file host.
const FILE_ATTEMPTS: u32 = 8;
const FILE_OUTAGES: u32 = 60;

/// Fetches one file from MAX and puts it into the CRM; the message goes on without it where that
/// cannot be.
pub(super) async fn store(
    shared: &Shared,
    active: &Active,
    creatio: &creatio::Client,
    head: &Head,
    incoming: &Incoming,
    index: usize,
) -> Attempt {
    let CrmTask::Message { stand_by, own, .. } = &head.task else { return Verdict::Needless.into() };
    let task = |incoming| CrmTask::Message { incoming, stand_by: *stand_by, own: *own };
    let changed = |incoming| Verdict::Changed(task(incoming)).into();
    let without = |reason: &str| {
        let mut rest = incoming.clone();
        let file = rest.files.remove(index);
        add_line(&mut rest.text, &render::missing_file(&file.name, reason));
        changed(rest)
    };
    let file = &incoming.files[index];
    let fetched = shared.files_fetched.load(Ordering::Relaxed);
    let (bytes, mime_type, name) = match fetch(&active.max, file, shared.largest_file()).await {
        Ok(found) => found,
        Err(FetchError::NoAddress) => return without("у него нет адреса"),
        Err(FetchError::Max(error)) => {
            let mut counted = incoming.clone();
            let tried = &mut counted.files[index];
            match error.class() {
                max::Class::TooLarge => return without("он больше, чем принимает CRM"),
                max::Class::ForbiddenAddress => return without("он лежит не на серверах MAX"),
                max::Class::NotFound => return without("MAX его больше не отдаёт"),
                max::Class::Refused => return without("MAX его не отдаёт"),
                // These say nothing about the file.
                max::Class::Unauthorized | max::Class::AccountBlocked | max::Class::Throttled { .. } => {}
                // Others came meanwhile, or the host answered for this one: it is this file.
                _ if error.status() == Some(500) || shared.files_fetched.load(Ordering::Relaxed) > fetched => {
                    tried.failures += 1;
                }
                _ => tried.outages += 1,
            }
            if tried.failures >= FILE_ATTEMPTS || tried.outages >= FILE_OUTAGES {
                return without("MAX его не отдаёт");
            }
            let asked =
                error.retry_after().map_or(0, |after| Millis::try_from(after.as_millis()).unwrap_or(Millis::MAX));
            let pause = pause(tried.failures.max(head.attempts)).max(asked);
            return Attempt::Later(Outcome::Wait(pause), Some(task(counted)));
        }
    };
    shared.files_fetched.fetch_add(1, Ordering::Relaxed);
    let size = bytes.len() as u64;
    match creatio.upload_file(file.id, &name, &mime_type, bytes).await {
        Ok(FileUpload::Stored { .. }) => {
            let mut with = incoming.clone();
            with.files[index].name = name;
            with.files[index].stored = Some(StoredFile { mime_type, size });
            changed(with)
        }
        Ok(FileUpload::TooBig { max_bytes }) => {
            if let Some(limit) = max_bytes {
                shared.set_largest_file(limit);
            }
            without("он больше, чем принимает CRM")
        }
        Err(error) => failure(shared, head, &error),
    }
}

/// Why a file cannot be had from MAX.
enum FetchError {
    NoAddress,
    Max(max::Error),
}

impl FetchError {
    /// Nothing is to be had at this address; another may do.
    fn is_of_the_address(&self) -> bool {
        use max::Class::{ForbiddenAddress, NotFound, Refused, TooLarge};
        match self {
            Self::NoAddress => true,
            Self::Max(error) => matches!(error.class(), ForbiddenAddress | NotFound | Refused | TooLarge),
        }
    }

    fn is_too_large(&self) -> bool {
        matches!(self, Self::Max(error) if error.class() == &max::Class::TooLarge)
    }

    fn may_be_expired(&self) -> bool {
        match self {
            Self::NoAddress => true,
            Self::Max(error) => matches!(error.class(), max::Class::NotFound | max::Class::Refused),
        }
    }
}

impl From<max::Error> for FetchError {
    fn from(error: max::Error) -> Self {
        Self::Max(error)
    }
}

/// Where the bytes of an attachment may be had.
#[derive(Default, PartialEq)]
struct Place {
    url: Option<Url>,
    /// Of a film, whose own address may be missing or unsuitable (MAX Bot API reference, "Incoming
    /// attachments").
    video_token: Option<String>,
}

impl Place {
    fn of(attachment: &max::Attachment) -> Self {
        let (url, video_token) = match attachment {
            max::Attachment::Image(image) => (&image.url, None),
            max::Attachment::Video(video) => (&video.url, video.token.clone()),
            max::Attachment::Audio(audio) => (&audio.url, None),
            max::Attachment::File(file) => (&file.url, None),
            _ => (&None, None),
        };
        Self { url: url.clone(), video_token }
    }

    async fn by_url(&self, max: &max::Client, largest: usize) -> Result<max::Download, FetchError> {
        match &self.url {
            Some(url) => Ok(max.download(url, largest).await?),
            None => Err(FetchError::NoAddress),
        }
    }

    /// The best first: of one that is too large for the CRM a smaller one may do.
    async fn by_token(&self, max: &max::Client, largest: usize) -> Result<max::Download, FetchError> {
        let Some(token) = &self.video_token else { return Err(FetchError::NoAddress) };
        let mut last = FetchError::NoAddress;
        for (_, url) in max.video(token).await?.mp4 {
            match max.download(&url, largest).await {
                Ok(download) => return Ok(download),
                Err(error) => last = error.into(),
            }
            if !last.is_of_the_address() {
                break;
            }
        }
        Err(last)
    }
}

async fn fetch(max: &max::Client, file: &IncomingFile, largest: usize) -> Result<(Bytes, String, String), FetchError> {
    let mut place = Place { url: file.url.clone(), video_token: file.video_token.clone() };
    let mut outcome = place.by_url(max, largest).await;
    // Addresses expire; the message itself has a fresh one.
    let has_only_a_token = place.url.is_none() && place.video_token.is_some();
    if !has_only_a_token && outcome.as_ref().is_err_and(FetchError::may_be_expired) {
        let message = max.message(&file.mid).await?;
        let attachments = match message.link {
            Some(link) if file.in_link => link.attachments,
            _ => message.attachments,
        };
        let fresh = attachments.get(file.index).map(Place::of);
        if let Some(fresh) = fresh.filter(|fresh| *fresh != place) {
            place = fresh;
            outcome = place.by_url(max, largest).await;
        }
    }
    let download = match outcome {
        Err(error) if error.is_of_the_address() && place.video_token.is_some() => {
            match place.by_token(max, largest).await {
                // What is too large stays so, whatever is to be had of it at another time.
                Err(_) if error.is_too_large() => return Err(error),
                outcome => outcome?,
            }
        }
        outcome => outcome?,
    };
    let name = match file.kind {
        MessageType::File => file.name.clone(),
        _ => with_extension(&file.name, &download.mime),
    };
    Ok((download.bytes, download.mime, name))
}

/// Pictures, sounds and films come without a name: theirs ends as their content says.
fn with_extension(name: &str, mime_type: &str) -> String {
    let extension = match mime_type {
        "image/jpeg" => "jpg",
        "image/png" => "png",
        "image/gif" => "gif",
        "image/webp" => "webp",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "audio/mpeg" => "mp3",
        "audio/ogg" => "ogg",
        "audio/mp4" => "m4a",
        _ => return name.to_owned(),
    };
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    format!("{stem}.{extension}")
}
