//! The calls of the API.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::value::RawValue;
use url::Url;

use super::Settings;
use super::error::Error;
use super::files::Download;
use super::message::{Bot, Message, Subscription, VideoDetails};
use super::outgoing::{Action, CallbackAnswer, History, NewMessage, OutgoingAttachment, Recipient, UploadKind};
use crate::transport::Transport;

/// One bot at the API. Cheap to clone; clones share the limits.
#[derive(Clone)]
pub struct Client {
    _private: (),
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The answer of GET /updates.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// As they came; [`super::update::parse`] reads them.
    pub updates: Vec<Box<RawValue>>,
    /// What to ask with next time, once these are on disk; `None`: keep the marker you have.
    pub marker: Option<i64>,
}

impl Client {
    /// `files` carries uploads and downloads and never gets the token; [`super::transports`] makes both.
    #[must_use]
    pub fn new(_api: Arc<dyn Transport>, _files: Arc<dyn Transport>, _settings: Settings) -> Self {
        todo!()
    }

    /// The same bot under a new token (and address), with the same limits: a token that is changed does not double the allowance.
    #[must_use]
    pub fn with_settings(&self, _settings: Settings) -> Self {
        todo!()
    }

    /// GET /me.
    pub async fn me(&self) -> Result<Bot, Error> {
        todo!()
    }

    /// GET /subscriptions.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, Error> {
        todo!()
    }

    /// POST /subscriptions for all update types. The same URL again replaces its settings; another URL adds a subscription.
    pub async fn subscribe(&self, _url: &str, _secret: &SecretString) -> Result<(), Error> {
        todo!()
    }

    /// DELETE /subscriptions, by the exact URL.
    pub async fn unsubscribe(&self, _url: &str) -> Result<(), Error> {
        todo!()
    }

    /// GET /updates: all types, at most 100, waiting at most `timeout` (cut at 30 s) for the first. At most two polls a second.
    pub async fn updates(&self, _marker: Option<i64>, _timeout: Duration) -> Result<Updates, Error> {
        todo!()
    }

    /// POST /messages. There is no idempotency key: see [`Error::may_have_been_sent`].
    pub async fn send(&self, _to: Recipient, _message: &NewMessage) -> Result<Message, Error> {
        todo!()
    }

    /// PUT /messages. `dialog` is where the message stands: the limit of two per second counts per dialog.
    pub async fn edit(&self, _dialog: Recipient, _mid: &str, _message: &NewMessage) -> Result<(), Error> {
        todo!()
    }

    /// GET /messages/{messageId}, which also gives fresh addresses of its attachments. [`super::Class::NotFound`] if unknown.
    pub async fn message(&self, _mid: &str) -> Result<Message, Error> {
        todo!()
    }

    /// GET /messages of a chat, newest first. What cannot be read as a message is left out; [`Client::messages_raw`] has it.
    pub async fn messages(&self, _chat_id: i64, _query: History) -> Result<Vec<Message>, Error> {
        todo!()
    }

    /// The same as it came, for keeping; [`Message::parse`] reads each.
    pub async fn messages_raw(&self, _chat_id: i64, _query: History) -> Result<Vec<Box<RawValue>>, Error> {
        todo!()
    }

    /// POST /answers. `dialog` as in [`Client::edit`].
    pub async fn answer_callback(
        &self,
        _dialog: Recipient,
        _callback_id: &str,
        _answer: &CallbackAnswer,
    ) -> Result<(), Error> {
        todo!()
    }

    /// POST /chats/{chatId}/actions. Failures are harmless.
    pub async fn action(&self, _chat_id: i64, _action: Action) -> Result<(), Error> {
        todo!()
    }

    /// POST /uploads, then the bytes to the address it gives. The outcome can be sent at once; until MAX has processed it the send is
    /// answered [`super::Class::NotReady`].
    pub async fn upload(
        &self,
        _kind: UploadKind,
        _name: &str,
        _mime: &str,
        _bytes: Bytes,
    ) -> Result<OutgoingAttachment, Error> {
        todo!()
    }

    /// Fetches an attachment of at most `max_bytes`, without the token, from hosts of MAX (and the API host itself) only.
    /// [`super::Class::NotFound`]: the address has expired, [`Client::message`] has a new one.
    pub async fn download(&self, _url: &Url, _max_bytes: usize) -> Result<Download, Error> {
        todo!()
    }

    /// GET /videos/{videoToken}.
    pub async fn video(&self, _token: &str) -> Result<VideoDetails, Error> {
        todo!()
    }
}
