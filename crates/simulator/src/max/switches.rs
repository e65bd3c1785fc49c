//! Everything about MAX that its documents leave open, one switch each.
//!
//! The default is the reading that most sources support. [`Switches::hostile`] turns every open
//! question to the answer that is harder on a client; a client is right when it works in every
//! position. Facts that are documented have no switch.

use serde::{Deserialize, Serialize};

/// Every open question, settable at the start and at run time. Unknown names are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent open question")]
pub struct Switches {
    /// GET /updates without `marker`: everything unread (the schema, December 2025) or only the
    /// newest update (docs page; hostile).
    pub omitted_marker: OmittedMarker,
    /// GET /updates while a subscription exists. Hostile: `MethodNotAllowed`.
    pub poll_under_webhook: PollUnderWebhook,
    /// A second GET /updates beside a waiting one: both served, or 409 for the newcomer (hostile).
    pub parallel_pollers: ParallelPollers,
    /// Whether a `types` filter also acknowledges what it filtered out (hostile: true).
    pub types_filter_acknowledges: bool,
    /// Whether a bot gets `message_created` for its own messages (hostile: true).
    pub echo_own_messages: bool,
    /// Whether the start address with a payload yields `bot_started` for a dialog that is already
    /// open (hostile: false).
    pub start_in_open_dialog: bool,
    /// Order of webhook deliveries within a chat.
    pub delivery_order: DeliveryOrder,
    /// What the 8 hours without a 200 are counted for: the subscription as a whole, or any single
    /// update (hostile).
    pub unsubscribe_window: UnsubscribeWindow,
    /// How many subscriptions one bot may hold; one more is refused. Hostile: 1.
    pub max_subscriptions: usize,
    /// The shortest time a receiver is given for its answer, however small the scale makes 30 s;
    /// milliseconds.
    pub webhook_timeout_floor_ms: u64,
    /// Test switch: `http://` addresses may be subscribed.
    pub allow_http_webhooks: bool,
    /// Test switch: addresses with a port may be subscribed.
    pub allow_any_webhook_port: bool,

    /// Requests of one bot within any one second (MAX Bot API, rate limits: 30). 0: no limit.
    pub host_per_second: u32,
    /// Sends, edits, deletions and answers, each kind for itself, into one chat within any one
    /// second (documented: 2). 0: no limit.
    pub chat_per_second: u32,
    /// GET /updates within any one second (notice of May 2026: 2). 0: no limit.
    pub polls_per_second: u32,
    /// Length of the window in which the three rates are counted, milliseconds. 1000 is "any one
    /// second", taken strictly.
    pub rate_window_ms: u64,
    /// `Retry-After` of a 429 in seconds, or none (hostile).
    pub retry_after: Option<u32>,
    /// Whether the 30 per second are counted per token or for all bots of one address together
    /// (hostile).
    pub rate_scope: RateScope,
    /// Whether refused requests fill the window too (hostile: true), so that hammering never gets
    /// through.
    pub refused_requests_count: bool,

    /// A send into a dialog that the customer removed: 403 like a stopped one, or 404
    /// `chat.not.found` (hostile).
    pub removed_dialog: RemovedDialog,
    /// Where `error.dialog.suspended` stands: in `message` with code `chat.denied`, or in `code`
    /// (hostile).
    pub suspended_in: SuspendedIn,
    /// Whether a dialog's `chat_id` is taken as the recipient of a send (hostile: false, 404
    /// `chat.not.found`).
    pub dialog_chat_id_accepted: bool,
    /// Whether GET /messages works for dialogs (hostile: false, 403).
    pub dialog_reading_allowed: bool,
    /// What is looked at first once the token is right: the body (seen live) or the recipient
    /// (hostile).
    pub check_order: CheckOrder,

    /// What a deleted bot is answered.
    pub deleted_bot: BotAnswer,
    /// What a blocked bot is answered.
    pub blocked_bot: BotAnswer,
    /// How long the old token lives after a re-issue, milliseconds, scaled.
    pub old_token_life_ms: u64,

    /// Unit of the limit of 4000. Hostile: `Utf16`, which is the tighter.
    pub text_unit: TextUnit,
    /// Unit of `from` and `length` in `markup`.
    pub markup_unit: TextUnit,
    /// Whether a text with a web address is kept with a preview of the page, a `share` attachment
    /// that nobody sent (hostile: true).
    pub link_previews: bool,
    /// Whether POST /answers takes `{}` (hostile: false, 400).
    pub empty_answer_accepted: bool,
    /// Rows of a keyboard: documented 30; one report saw 29 (hostile).
    pub max_keyboard_rows: usize,
    /// How old a message without a keyboard may be for an edit, hours, scaled: 168 (docs) or 24
    /// (older pages; hostile).
    pub edit_age_hours: u64,
    /// How old a message may be for a deletion, hours, scaled; none: any (docs); 24 (older pages;
    /// hostile).
    pub delete_age_hours: Option<u64>,
    /// How long a callback id may be answered, milliseconds, scaled; none: always.
    pub callback_life_ms: Option<u64>,

    /// How long uploaded video, audio and files are `attachment.not.ready`, milliseconds, scaled.
    pub not_ready_ms: u64,
    /// How many sends with a fresh video, audio or file token are refused as
    /// `attachment.not.ready`.
    pub not_ready_sends: u32,
    /// Life of an upload address, milliseconds, scaled.
    pub upload_url_life_ms: u64,
    /// Life of a download address, milliseconds, scaled.
    pub download_url_life_ms: u64,
    /// Fault of June 2026: every video and audio token is refused with `movie.not.owner`.
    pub movie_not_owner: bool,
    /// The address in the payload of a video: usable, unsuitable (answers 403), or absent
    /// (hostile).
    pub video_url: VideoUrl,
    /// Whether `<retval>1</retval>` comes with an XML declaration.
    pub xml_declaration: bool,

    /// What the live service sends beyond the schema: `name` of users, `user_id` of life-cycle
    /// updates, `intent` of buttons.
    pub live_extras: bool,
    /// Every JSON answer and update carries fields nobody has heard of (hostile).
    pub extra_fields: bool,
    /// Optional fields without a value are `null` instead of absent (hostile).
    pub nulls: bool,

    /// Bound of this simulator: bytes of one upload.
    pub max_upload_bytes: usize,
    /// Bound of this simulator: bytes of all stored files together; the oldest go first.
    pub max_stored_bytes: usize,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            omitted_marker: OmittedMarker::Unread,
            poll_under_webhook: PollUnderWebhook::Empty,
            parallel_pollers: ParallelPollers::Both,
            types_filter_acknowledges: false,
            echo_own_messages: false,
            start_in_open_dialog: true,
            delivery_order: DeliveryOrder::FirstAttempts,
            unsubscribe_window: UnsubscribeWindow::Subscription,
            max_subscriptions: 16,
            webhook_timeout_floor_ms: 2_000,
            allow_http_webhooks: false,
            allow_any_webhook_port: false,
            host_per_second: 30,
            chat_per_second: 2,
            polls_per_second: 2,
            rate_window_ms: 1_000,
            retry_after: Some(1),
            rate_scope: RateScope::Token,
            refused_requests_count: false,
            removed_dialog: RemovedDialog::Suspended,
            suspended_in: SuspendedIn::Message,
            dialog_chat_id_accepted: true,
            dialog_reading_allowed: true,
            check_order: CheckOrder::BodyFirst,
            deleted_bot: BotAnswer::invalid_token(),
            blocked_bot: BotAnswer {
                status: 403,
                code: "account.blocked".to_owned(),
                message: "Account is blocked".to_owned(),
            },
            old_token_life_ms: 0,
            text_unit: TextUnit::CodePoints,
            markup_unit: TextUnit::Utf16,
            empty_answer_accepted: false,
            max_keyboard_rows: 30,
            edit_age_hours: 168,
            delete_age_hours: None,
            callback_life_ms: None,
            not_ready_ms: 0,
            not_ready_sends: 0,
            upload_url_life_ms: 3_600_000,
            download_url_life_ms: 86_400_000,
            movie_not_owner: false,
            video_url: VideoUrl::Usable,
            link_previews: false,
            xml_declaration: false,
            live_extras: true,
            extra_fields: false,
            nulls: false,
            max_upload_bytes: 64 << 20,
            max_stored_bytes: 512 << 20,
        }
    }
}

impl Switches {
    /// The default with the two test switches on: webhooks over plain HTTP, on any port.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { allow_http_webhooks: true, allow_any_webhook_port: true, ..Self::default() }
    }

    /// Every open question in its harder position; the two test switches are on.
    #[must_use]
    pub fn hostile() -> Self {
        Self {
            omitted_marker: OmittedMarker::Latest,
            poll_under_webhook: PollUnderWebhook::MethodNotAllowed,
            parallel_pollers: ParallelPollers::Conflict,
            types_filter_acknowledges: true,
            echo_own_messages: true,
            start_in_open_dialog: false,
            delivery_order: DeliveryOrder::Unordered,
            unsubscribe_window: UnsubscribeWindow::Update,
            max_subscriptions: 2,
            retry_after: None,
            rate_scope: RateScope::Address,
            refused_requests_count: true,
            removed_dialog: RemovedDialog::ChatNotFound,
            suspended_in: SuspendedIn::Code,
            dialog_chat_id_accepted: false,
            dialog_reading_allowed: false,
            check_order: CheckOrder::RecipientFirst,
            text_unit: TextUnit::Utf16,
            markup_unit: TextUnit::CodePoints,
            max_keyboard_rows: 29,
            edit_age_hours: 24,
            delete_age_hours: Some(24),
            callback_life_ms: Some(60_000),
            not_ready_sends: 2,
            video_url: VideoUrl::Absent,
            link_previews: true,
            xml_declaration: true,
            extra_fields: true,
            nulls: true,
            ..Self::for_tests()
        }
    }
}

/// See [`Switches::omitted_marker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OmittedMarker {
    /// All updates that no marker has acknowledged yet.
    Unread,
    /// The newest update alone.
    Latest,
}

/// See [`Switches::poll_under_webhook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PollUnderWebhook {
    /// The time runs out, then an empty list.
    Empty,
    /// 405.
    MethodNotAllowed,
    /// 409.
    Conflict,
}

/// See [`Switches::parallel_pollers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParallelPollers {
    /// Both get the updates.
    Both,
    /// The second gets 409.
    Conflict,
}

/// See [`Switches::delivery_order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryOrder {
    /// First attempts of a chat go one after the other; what failed is repeated later while newer
    /// updates go on.
    FirstAttempts,
    /// An update that failed holds up its chat until it got through.
    Strict,
    /// No order at all: everything at once.
    Unordered,
}

/// See [`Switches::unsubscribe_window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsubscribeWindow {
    /// No 200 at all for 8 hours.
    Subscription,
    /// One update without a 200 for 8 hours.
    Update,
}

/// See [`Switches::rate_scope`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// Each bot for itself.
    Token,
    /// All bots together.
    Address,
}

/// See [`Switches::removed_dialog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovedDialog {
    /// 403, like a stopped dialog.
    Suspended,
    /// 404 `chat.not.found`.
    ChatNotFound,
}

/// See [`Switches::suspended_in`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SuspendedIn {
    /// `{"code": "chat.denied", "message": "error.dialog.suspended"}`.
    Message,
    /// `{"code": "error.dialog.suspended", …}`.
    Code,
}

/// See [`Switches::check_order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOrder {
    /// Parameters and body, then the recipient.
    BodyFirst,
    /// The recipient, then the body.
    RecipientFirst,
}

/// The unit in which lengths of text are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextUnit {
    /// Unicode code points.
    CodePoints,
    /// UTF-16 code units.
    Utf16,
}

impl TextUnit {
    /// The length of `text` in this unit.
    pub fn length(self, text: &str) -> usize {
        match self {
            Self::CodePoints => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
        }
    }
}

/// See [`Switches::video_url`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VideoUrl {
    /// The address yields the video.
    Usable,
    /// The address answers 403; GET /videos/{token} has the usable ones.
    Unsuitable,
    /// No address at all.
    Absent,
}

/// An answer to every call of a bot that is in a special state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BotAnswer {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// `code` of the error envelope.
    pub code: String,
    /// `message` of the error envelope.
    pub message: String,
}

impl BotAnswer {
    /// 401 `verify.token`, what a revoked token gets.
    pub fn invalid_token() -> Self {
        Self { status: 401, code: "verify.token".to_owned(), message: "Invalid access_token".to_owned() }
    }
}
