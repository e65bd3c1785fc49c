//! The state of the simulator: bots, people, chats, messages, media, and what the Bot API can see
//! of them.
//!
//! Everything lives behind one lock, in memory, bounded (see the constants). Nothing here waits,
//! and nothing here does I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::dispatch::Subscription;
use super::faults::Faults;
use super::markup::Span;
use super::rates::Rates;
use super::refusal::Refusal;
use super::statistics::Statistics;
use super::switches::{BotAnswer, RemovedDialog, Switches};
use super::updates::Log;
use crate::clock::Clock;

/// Messages kept per chat; the oldest go first.
const MESSAGES_PER_CHAT: usize = 100_000;
/// Callback ids and upload addresses kept; the oldest go first.
const OPAQUE_IDS: usize = 100_000;

/// What a bot is to the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BotState {
    /// Published; its token works.
    #[default]
    Active,
    /// Blocked by the company: [`Switches::blocked_bot`].
    Blocked,
    /// Deleted by its owner: [`Switches::deleted_bot`].
    Deleted,
    /// Any other special state, answered with this.
    Refused(BotAnswer),
}

#[derive(Debug)]
pub(super) struct Bot {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) username: Option<String>,
    pub(super) description: Option<String>,
    pub(super) commands: Option<Value>,
    pub(super) state: BotState,
    pub(super) token: Option<String>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) log: Log,
}

/// A token that is or was in force.
#[derive(Debug)]
pub(super) struct TokenEntry {
    pub(super) bot: i64,
    /// Unix ms after which it is refused.
    pub(super) dies_at: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) username: Option<String>,
    pub(super) locale: String,
    pub(super) phone: String,
    pub(super) active_at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialogState {
    Started,
    Stopped,
    Removed,
}

#[derive(Debug)]
pub(super) enum ChatKind {
    Dialog { user: i64, state: DialogState },
    Group { title: String, members: BTreeSet<i64>, bot_in: bool, bot_admin: bool },
}

#[derive(Debug)]
pub(super) struct Chat {
    pub(super) id: i64,
    pub(super) bot: i64,
    pub(super) kind: ChatKind,
    pub(super) messages: BTreeMap<i64, Message>,
    pub(super) last_seq: i64,
    /// The customer's history begins after this one: what was cleared is still the bot's to read.
    pub(super) cleared_through: i64,
    pub(super) muted_until: Option<i64>,
    pub(super) pinned: Option<i64>,
    /// The chat actions that the bot showed, newest last.
    pub(super) shown_actions: VecDeque<(i64, String)>,
    /// The notifications of answers to button presses, newest last.
    pub(super) notifications: VecDeque<(i64, String)>,
}

impl Chat {
    pub(super) fn is_dialog(&self) -> bool {
        matches!(self.kind, ChatKind::Dialog { .. })
    }

    pub(super) fn user(&self) -> Option<i64> {
        match self.kind {
            ChatKind::Dialog { user, .. } => Some(user),
            ChatKind::Group { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) seq: i64,
    pub(super) timestamp: i64,
    pub(super) sender: i64,
    pub(super) text: String,
    /// Offsets in code points; turned into the unit in force when shown.
    pub(super) markup: Vec<Span>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) link: Option<Linked>,
    pub(super) edited_at: Option<i64>,
    pub(super) deleted: bool,
    pub(super) notify: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Linked {
    pub(super) forward: bool,
    pub(super) chat: i64,
    pub(super) message: Box<Message>,
}

/// Kinds of uploaded content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A voice message or music.
    Audio,
    /// Anything else.
    File,
}

impl MediaKind {
    pub(super) const ALL: [Self; 4] = [Self::Image, Self::Video, Self::Audio, Self::File];

    /// The name in `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::File => "file",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Attachment {
    Media(u64),
    Sticker {
        code: String,
    },
    Contact {
        vcf: String,
        hash: Option<String>,
        user: Option<i64>,
    },
    Share {
        url: String,
        title: Option<String>,
        description: Option<String>,
    },
    Location {
        latitude: f64,
        longitude: f64,
    },
    Keyboard {
        callback_id: String,
        rows: Value,
    },
    /// A type that no client knows, for tolerance tests.
    Unknown(Value),
}

#[derive(Debug)]
pub(super) struct Media {
    pub(super) id: u64,
    pub(super) kind: MediaKind,
    pub(super) bot: i64,
    pub(super) token: String,
    pub(super) name: String,
    pub(super) content_type: String,
    /// None until the upload arrives (video and audio get their token before).
    pub(super) bytes: Option<Bytes>,
    pub(super) ready_at: i64,
    pub(super) refusals_left: u32,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) bot: i64,
    pub(super) kind: MediaKind,
    pub(super) expires: i64,
    /// The media that already has a token (video, audio).
    pub(super) media: Option<u64>,
    pub(super) used: bool,
    /// Chunks of a resumable upload, by their first byte.
    pub(super) chunks: BTreeMap<usize, Bytes>,
}

/// A button press that can be answered.
#[derive(Debug)]
pub(super) struct Press {
    pub(super) bot: i64,
    pub(super) chat: i64,
    pub(super) seq: i64,
    pub(super) at: i64,
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) switches: Switches,
    pub(super) files_url: String,
    pub(super) bots: BTreeMap<i64, Bot>,
    pub(super) tokens: HashMap<String, TokenEntry>,
    pub(super) people: BTreeMap<i64, Person>,
    pub(super) chats: BTreeMap<i64, Chat>,
    /// (person, bot) to chat.
    pub(super) dialogs: HashMap<(i64, i64), i64>,
    pub(super) media: BTreeMap<u64, Media>,
    pub(super) media_tokens: HashMap<String, u64>,
    pub(super) stored_bytes: usize,
    pub(super) uploads: Bounded<Upload>,
    pub(super) presses: Bounded<Press>,
    pub(super) faults: Faults,
    pub(super) rates: Rates,
    pub(super) statistics: Statistics,
    /// Lanes of the dispatcher that got their first job and need a worker: (bot, subscription,
    /// lane).
    pub(super) new_lanes: Vec<(i64, u64, i64)>,
    /// Host names of webhooks that are reached elsewhere: host to base address.
    pub(super) routes: BTreeMap<String, String>,
    seed: [u8; 32],
    counter: u64,
}

/// A map of opaque ids that forgets the oldest.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    map: HashMap<String, T>,
    order: VecDeque<String>,
}

impl<T> Bounded<T> {
    fn new() -> Self {
        Self { map: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, id: String, value: T) {
        if self.order.len() >= OPAQUE_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.map.remove(&oldest);
        }
        self.order.push_back(id.clone());
        self.map.insert(id, value);
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.map.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.map.get_mut(id)
    }
}

impl World {
    pub(super) fn new(clock: Clock, switches: Switches, files_url: String) -> Self {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        seed[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        Self {
            clock,
            switches,
            files_url,
            bots: BTreeMap::new(),
            tokens: HashMap::new(),
            people: BTreeMap::new(),
            chats: BTreeMap::new(),
            dialogs: HashMap::new(),
            media: BTreeMap::new(),
            media_tokens: HashMap::new(),
            stored_bytes: 0,
            uploads: Bounded::new(),
            presses: Bounded::new(),
            faults: Faults::default(),
            rates: Rates::default(),
            statistics: Statistics::default(),
            new_lanes: Vec::new(),
            routes: BTreeMap::new(),
            seed,
            counter: 0,
        }
    }

    /// A number that was not given out before.
    pub(super) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An opaque id of `length` characters of the URL-safe alphabet, never the same twice.
    pub(super) fn opaque(&mut self, length: usize) -> String {
        use base64::Engine as _;
        let mut out = String::new();
        while out.len() < length {
            let digest = Sha256::new().chain_update(self.seed).chain_update(self.next().to_be_bytes()).finalize();
            out.push_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest));
        }
        out.truncate(length);
        out
    }

    /// The signature of an address that this simulator gave out.
    pub(super) fn signature(&self, what: &str) -> String {
        let digest = Sha256::new().chain_update(self.seed).chain_update(what.as_bytes()).finalize();
        hex(&digest[..10])
    }

    /// The bot that `token` belongs to, or why not.
    pub(super) fn bot_of(&self, token: &str) -> Result<i64, Refusal> {
        let invalid = || Refusal::token("Invalid access_token");
        let entry = self.tokens.get(token).ok_or_else(invalid)?;
        if entry.dies_at.is_some_and(|at| at <= self.clock.now_ms()) {
            return Err(invalid());
        }
        match &self.bots.get(&entry.bot).ok_or_else(invalid)?.state {
            BotState::Active => Ok(entry.bot),
            BotState::Blocked => Err(Refusal::from(&self.switches.blocked_bot)),
            BotState::Deleted => Err(Refusal::from(&self.switches.deleted_bot)),
            BotState::Refused(answer) => Err(Refusal::from(answer)),
        }
    }

    /// The chat that a send goes to (MAX Bot API, POST /messages; simulator checklist 3).
    pub(super) fn recipient(&self, bot: i64, user: Option<i64>, chat: Option<i64>) -> Result<i64, Refusal> {
        let id = match (user, chat) {
            (Some(user), _) => *self.dialogs.get(&(user, bot)).ok_or_else(Refusal::no_dialog)?,
            (None, Some(chat)) => {
                let found =
                    self.chats.get(&chat).filter(|found| found.bot == bot).ok_or_else(|| Refusal::no_chat(chat))?;
                if found.is_dialog() && !self.switches.dialog_chat_id_accepted {
                    return Err(Refusal::no_chat(chat));
                }
                chat
            }
            (None, None) => return Err(Refusal::payload("Unknown recipient")),
        };
        match self.chats.get(&id).map(|chat| &chat.kind) {
            Some(ChatKind::Dialog { state: DialogState::Started, .. } | ChatKind::Group { bot_in: true, .. }) => Ok(id),
            Some(ChatKind::Dialog { state: DialogState::Removed, .. })
                if self.switches.removed_dialog == RemovedDialog::ChatNotFound =>
            {
                Err(Refusal::no_chat(id))
            }
            Some(ChatKind::Dialog { .. }) => Err(Refusal::suspended(self.switches.suspended_in)),
            Some(ChatKind::Group { .. }) | None => Err(Refusal::no_chat(id)),
        }
    }

    /// Puts a message into a chat: `seq` grows strictly, and tells the time in its upper bits (MAX
    /// Bot API, shared objects).
    pub(super) fn add_message(&mut self, chat: i64, mut message: Message) -> Option<i64> {
        let now = self.clock.now_ms();
        let chat = self.chats.get_mut(&chat)?;
        let seq = (now << 16).max(chat.last_seq + 1);
        chat.last_seq = seq;
        message.seq = seq;
        message.timestamp = seq >> 16;
        chat.messages.insert(seq, message);
        if chat.messages.len() > MESSAGES_PER_CHAT {
            chat.messages.pop_first();
        }
        Some(seq)
    }

    /// The message of a mid that `bot` may see: (chat, seq). Deleted messages are gone.
    pub(super) fn find(&self, bot: i64, mid: &str) -> Option<(i64, i64)> {
        let (chat, seq) = parse_mid(mid)?;
        let found = self.chats.get(&chat).filter(|found| found.bot == bot)?;
        found.messages.get(&seq).filter(|message| !message.deleted)?;
        Some((chat, seq))
    }

    pub(super) fn message(&self, chat: i64, seq: i64) -> Option<(&Chat, &Message)> {
        let chat = self.chats.get(&chat)?;
        Some((chat, chat.messages.get(&seq)?))
    }

    pub(super) fn message_mut(&mut self, chat: i64, seq: i64) -> Option<&mut Message> {
        self.chats.get_mut(&chat)?.messages.get_mut(&seq)
    }

    /// Keeps content; where the bound is reached the oldest content goes.
    pub(super) fn store(
        &mut self,
        kind: MediaKind,
        bot: i64,
        name: String,
        content_type: String,
        bytes: Option<Bytes>,
    ) -> u64 {
        let id = 3_399_100_000 + self.next();
        let token = self.opaque(76);
        self.media_tokens.insert(token.clone(), id);
        self.media
            .insert(id, Media { id, kind, bot, token, name, content_type, bytes: None, ready_at: 0, refusals_left: 0 });
        if let Some(bytes) = bytes {
            self.fill(id, bytes);
        }
        id
    }

    /// The bytes of a media that has its token already.
    pub(super) fn fill(&mut self, id: u64, bytes: Bytes) {
        self.stored_bytes += bytes.len();
        if let Some(media) = self.media.get_mut(&id) {
            media.bytes = Some(bytes);
        }
        while self.stored_bytes > self.switches.max_stored_bytes {
            let Some(oldest) = self.media.iter().find(|(other, media)| **other != id && media.bytes.is_some()) else {
                break;
            };
            let oldest = *oldest.0;
            if let Some(gone) = self.media.remove(&oldest) {
                self.stored_bytes -= gone.bytes.map_or(0, |bytes| bytes.len());
                self.media_tokens.remove(&gone.token);
            }
        }
    }
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `mid.` and two groups of 16 hex digits: the chat in two's complement, and `seq` (MAX Bot API,
/// shared objects).
pub(super) fn mid(chat: i64, seq: i64) -> String {
    format!("mid.{chat:016x}{seq:016x}")
}

/// The chat and `seq` of a mid made by [`mid`]; the prefix may be missing.
pub(super) fn parse_mid(mid: &str) -> Option<(i64, i64)> {
    let digits = mid.strip_prefix("mid.").unwrap_or(mid);
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok().map(u64::cast_signed);
    Some((number(&digits[..16])?, number(&digits[16..])?))
}

/// The documented pattern of a message id: `(mid.)?[A-Za-z0-9_-]+`.
pub(super) fn is_mid(text: &str) -> bool {
    let rest = text.strip_prefix("mid.").unwrap_or(text);
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mid_holds_the_chat_and_the_seq_like_the_recorded_ones() {
        let (chat, seq) = (182_403_740, 116_328_147_937_082_782);
        assert_eq!(mid(chat, seq), "mid.000000000adf429c019d47d58f2b3d9e");
        assert_eq!(seq >> 16, 1_775_026_671_403);
        for chat in [182_403_740, -70_801_234_567_890] {
            assert_eq!(parse_mid(&mid(chat, seq)), Some((chat, seq)));
        }
        for bad in ["", "mid.", "mid.00", "mid.zz", "mid.é0000000adf429c019d47d58f2b3d9"] {
            assert_eq!(parse_mid(bad), None, "{bad}");
        }
    }
}
