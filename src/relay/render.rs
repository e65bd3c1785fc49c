//! What an agent reads: one update of MAX as a line or two of text and the files that go with it.
//! Pure.
//!
//! Creatio knows text and files. Everything else (stickers, contacts, places, forwards, edits,
//! removals, presses of buttons) becomes a readable line in square brackets, and what this program
//! does not know says so to the agent. The agents of the product are Russian, so the lines are.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use crate::creatio::MessageType;
use crate::max::update::{Event, Update, is_time};
use crate::max::{Attachment, Link, LinkMark, Message, MessageId, vcard};
use crate::time::Millis;

/// An update of a customer's that concerns the CRM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Incoming {
    /// The key of the message in the CRM (wire contract, "externalId").
    pub external_id: String,
    /// The message it replaces: of edits and removals only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub replaces: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<IncomingFile>,
    /// What a bot is asked: the words as the customer wrote them, or the payload of the pressed
    /// button. Only where there are none it gets the agents' lines.
    #[serde(skip)]
    pub question: String,
    /// Of edits and removals: that it goes to the agents as such is decided, and it may have been
    /// told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placed: bool,
}

/// A file that is still at MAX.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncomingFile {
    /// Its id in the CRM, made from the message and the place in it, so that a repeated upload is
    /// the same file.
    pub id: Uuid,
    /// The message it stands in, from which a fresh address comes when this one has expired.
    pub mid: MessageId,
    /// It stands in what that message forwards.
    #[serde(default)]
    pub in_link: bool,
    /// Its place among the attachments there.
    pub index: usize,
    pub url: Option<Url>,
    /// Of videos: for the address of the picture that plays best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_token: Option<String>,
    pub name: String,
    pub kind: MessageType,
    /// Filled in when it is in the CRM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredFile>,
    /// How often MAX did not give it, though it gave others.
    #[serde(default)]
    pub failures: u32,
    /// How often it could not be had because nothing could.
    #[serde(default)]
    pub outages: u32,
    /// The CRM lost it once and it was stored again.
    #[serde(default)]
    pub lost: bool,
}

/// A file that is in the CRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredFile {
    pub mime_type: String,
    pub size: u64,
}

/// What the agent is to read of an update that happened at `at`, if anything.
#[must_use]
pub fn incoming(update: &Update, at: Millis) -> Option<Incoming> {
    let mut incoming = lines(update, at)?;
    let said = match &update.event {
        Event::MessageCreated(message) => message.text.clone(),
        Event::MessageCallback { payload, .. } => payload.clone(),
        _ => None,
    };
    incoming.question = if let Some(said) = said.filter(|said| !said.trim().is_empty()) {
        said
    } else {
        let files = incoming.files.iter().map(|file| format!("[Файл] {}", file.name));
        let shown = Some(incoming.text.clone()).filter(|text| !text.is_empty());
        shown.into_iter().chain(files).collect::<Vec<_>>().join("\n")
    };
    Some(incoming)
}

fn lines(update: &Update, at: Millis) -> Option<Incoming> {
    match &update.event {
        Event::MessageCreated(message) => {
            Some(of_message(message, id_in_crm(message.mid.as_str()), String::new(), None))
        }
        Event::MessageEdited(message) => Some(of_message(
            message,
            format!("{}:edit:{}", id_in_crm(message.mid.as_str()), edit_number(update, at)),
            id_in_crm(message.mid.as_str()),
            Some(EDITED),
        )),
        Event::MessageRemoved { message_id } => Some(Incoming {
            external_id: format!("{}:removed", id_in_crm(message_id.as_str())),
            replaces: id_in_crm(message_id.as_str()),
            text: "[Клиент удалил сообщение]".to_owned(),
            files: Vec::new(),
            ..Incoming::default()
        }),
        Event::MessageCallback { payload, .. } => Some(Incoming {
            external_id: format!("press:{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, update.dedup_key().as_bytes())),
            replaces: String::new(),
            text: match payload {
                Some(payload) if !payload.trim().is_empty() => format!("[Нажата кнопка] {}", plain(payload)),
                _ => "[Нажата кнопка]".to_owned(),
            },
            files: Vec::new(),
            ..Incoming::default()
        }),
        _ => None,
    }
}

/// An original in the words of its edit, which came first.
#[must_use]
pub fn edited_before_it_came(edited: &Message, mid: &MessageId) -> Incoming {
    let mut incoming = of_message(edited, id_in_crm(mid.as_str()), String::new(), Some(EDITED));
    incoming.question = edited.text.clone().unwrap_or_else(|| incoming.text.clone());
    incoming
}

/// An edit or removal that came when the chat was closed.
#[must_use]
pub fn after_the_close(incoming: &Incoming) -> String {
    let files = incoming.files.iter().map(|file| format!("[Файл] {}", file.name));
    let lines = ["[После закрытия диалога]".to_owned(), incoming.text.clone()];
    lines.into_iter().filter(|line| !line.is_empty()).chain(files).collect::<Vec<_>>().join("\n")
}

/// A message that cannot be read: the dead letter with all that came, and the line that calls the
/// agents.
#[must_use]
pub fn unreadable(raw: &str, key: &str) -> (Incoming, Incoming) {
    const SHOWN: usize = 4_000;
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
    let shown: String = raw.chars().take(SHOWN).collect();
    let letter = Incoming {
        external_id: format!("unread:{id}"),
        text: format!("[Сообщение клиента, которое MaxChannel не смог прочитать]\n{shown}"),
        ..Incoming::default()
    };
    let text = "[Клиент прислал сообщение, которое MaxChannel не смог прочитать. Попросите клиента повторить его; администратор \
                MaxChannel видит его среди недоставленных]";
    let note = Incoming {
        external_id: format!("note:{id}"),
        text: text.to_owned(),
        question: text.to_owned(),
        ..Incoming::default()
    };
    (letter, note)
}

/// The id of a message as the CRM gets it, which takes at most 250 characters with what an edit
/// adds: a longer one is cut and bears its own digest.
#[must_use]
pub fn id_in_crm(mid: &str) -> String {
    const LONGEST: usize = 200;
    if mid.encode_utf16().count() <= LONGEST {
        return mid.to_owned();
    }
    let start: String = mid.chars().take(LONGEST / 4).collect();
    format!("{start}.{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, mid.as_bytes()))
}

/// A customer's name as the CRM gets it.
#[must_use]
pub fn name(name: &str) -> String {
    const LONGEST: usize = 200;
    plain(name).split_whitespace().collect::<Vec<_>>().join(" ").chars().take(LONGEST).collect()
}

/// A text without the characters that show nothing and that no CRM stores.
fn plain(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\r' | '\t') || !c.is_control()).collect()
}

/// The number in the key of an edit: its time, else one made of the update, so that two edits
/// without a time are two.
fn edit_number(update: &Update, at: Millis) -> u64 {
    if is_time(update.timestamp) && update.timestamp == at {
        return at.unsigned_abs();
    }
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, update.dedup_key().as_bytes());
    // As many digits as a time has.
    id.as_u64_pair().0 % 10_000_000_000_000
}

const EDITED: &str = "[Сообщение изменено]";

/// A line in front of a message that came too late to stand in its place (see `relay`, "A gap in
/// the webhooks").
#[must_use]
pub fn late(text: &str, sent_at: Millis) -> String {
    format!("[Отправлено клиентом {}, получено с опозданием]\n{text}", moscow(sent_at))
}

/// A line in place of a file that cannot be had.
#[must_use]
pub fn missing_file(name: &str, reason: &str) -> String {
    format!("[Файл «{name}» не передан: {reason}]")
}

/// `24.11.2026 15:04:05 МСК`: the agents' manuals and the cabinet speak Moscow time.
fn moscow(at: Millis) -> String {
    let zone = TimeZone::get("Europe/Moscow").unwrap_or(TimeZone::UTC);
    jiff::Timestamp::from_millisecond(at)
        .map(|at| at.to_zoned(zone).strftime("%d.%m.%Y %H:%M:%S МСК").to_string())
        .unwrap_or_default()
}

fn of_message(message: &Message, external_id: String, replaces: String, first: Option<&str>) -> Incoming {
    let mut lines: Vec<String> = first.map(str::to_owned).into_iter().collect();
    let mut files = Vec::new();
    if let Some(link) = &message.link {
        of_link(link, &message.mid, &external_id, &mut lines, &mut files);
    }
    of_text(message.text.as_deref(), &message.marks, &mut lines);
    let source = Source { mid: &message.mid, in_link: false };
    of_attachments(&message.attachments, source, &external_id, &mut lines, &mut files);
    if lines.is_empty() && files.is_empty() {
        lines.push("[Сообщение без содержимого, которое умеет показать MaxChannel]".to_owned());
    }
    Incoming { external_id, replaces, text: lines.join("\n"), files, ..Incoming::default() }
}

/// A text, and below it the addresses that stand behind its words.
fn of_text(text: Option<&str>, marks: &[LinkMark], lines: &mut Vec<String>) {
    let text = text.map(plain).filter(|text| !text.is_empty());
    let shown = text.as_deref().unwrap_or_default();
    let mut hidden: Vec<&LinkMark> = Vec::new();
    for mark in marks {
        let is_known = hidden.iter().any(|other| other.url == mark.url && other.from == mark.from);
        if !mark.url.trim().is_empty() && !shown.contains(&mark.url) && !is_known {
            hidden.push(mark);
        }
    }
    let addresses: Vec<String> = hidden
        .into_iter()
        .map(|mark| match mark.words(shown).split_whitespace().collect::<Vec<_>>().join(" ") {
            words if words.is_empty() => format!("[Ссылка] {}", mark.url),
            words => format!("[Ссылка «{words}»] {}", mark.url),
        })
        .collect();
    lines.extend(text);
    lines.extend(addresses);
}

/// Where attachments stand: in the dialog's own message or in what that forwards.
#[derive(Clone, Copy)]
struct Source<'a> {
    mid: &'a MessageId,
    in_link: bool,
}

fn of_link(link: &Link, mid: &MessageId, external_id: &str, lines: &mut Vec<String>, files: &mut Vec<IncomingFile>) {
    let from = link.sender.as_ref().map(crate::max::User::name).filter(|name| !name.is_empty());
    if link.kind == "reply" {
        const QUOTE: usize = 100;
        let quote = link.text.as_deref().map_or_else(|| "сообщение без текста".to_owned(), plain);
        let short: String = quote.chars().take(QUOTE).collect();
        let dots = if quote.chars().count() > QUOTE { "…" } else { "" };
        lines.push(format!("[В ответ на: «{short}{dots}»]"));
        return;
    }
    lines.push(from.map_or_else(|| "[Пересланное сообщение]".to_owned(), |from| format!("[Переслано от: {from}]")));
    of_text(link.text.as_deref(), &link.marks, lines);
    // The inner message is of another chat: only the dialog's own can be asked for.
    of_attachments(&link.attachments, Source { mid, in_link: true }, external_id, lines, files);
}

fn of_attachments(
    attachments: &[Attachment],
    source: Source<'_>,
    external_id: &str,
    lines: &mut Vec<String>,
    files: &mut Vec<IncomingFile>,
) {
    for (index, attachment) in attachments.iter().enumerate() {
        let mut file = |url: &Option<Url>, video_token: Option<String>, name: String, kind| {
            let key = format!("{external_id}/{}", files.len());
            files.push(IncomingFile {
                id: Uuid::new_v5(&crate::creatio::ids::namespace(), format!("file/{key}").as_bytes()),
                mid: source.mid.clone(),
                in_link: source.in_link,
                index,
                url: url.clone(),
                video_token,
                name,
                kind,
                stored: None,
                failures: 0,
                outages: 0,
                lost: false,
            });
        };
        match attachment {
            Attachment::Image(image) => file(&image.url, None, format!("фото-{}.webp", index + 1), MessageType::Image),
            Attachment::Video(video) => {
                file(&video.url, video.token.clone(), format!("видео-{}.mp4", index + 1), MessageType::Video);
            }
            Attachment::Audio(audio) => {
                file(&audio.url, None, format!("аудио-{}.mp3", index + 1), MessageType::Audio);
                if let Some(heard) = audio.transcription.as_deref().filter(|heard| !heard.trim().is_empty()) {
                    lines.push(format!("[Расшифровка] {heard}"));
                }
            }
            Attachment::File(sent) => {
                let name = sent.filename.as_deref().map_or_else(|| format!("файл-{}", index + 1), safe_name);
                file(&sent.url, None, name, MessageType::File);
            }
            Attachment::Sticker(_) => lines.push("[Стикер]".to_owned()),
            Attachment::Contact(contact) => {
                let card = contact.vcf_info.as_deref().map(vcard::read).unwrap_or_default();
                let name = card.name.or_else(|| contact.user.as_ref().map(crate::max::User::name)).unwrap_or_default();
                let phones = card.phones.join(", ");
                let line = format!("[Контакт] {name} {phones}");
                lines.push(line.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            Attachment::Share(share) => {
                let parts = [&share.title, &share.description, &share.url].map(|part| part.as_deref().map(plain));
                let parts = parts.into_iter().flatten().filter(|part| !part.trim().is_empty());
                lines.push(format!("[Ссылка] {}", parts.collect::<Vec<_>>().join(" ")).trim_end().to_owned());
            }
            Attachment::Location(place) => lines.push(format!(
                "[Геопозиция] {lat}, {lon} https://yandex.ru/maps/?pt={lon},{lat}&z=16",
                lat = place.latitude,
                lon = place.longitude
            )),
            Attachment::InlineKeyboard => {}
            Attachment::Unknown { kind } => {
                lines.push(format!("[Клиент прислал вложение вида «{kind}», которое MaxChannel показать не умеет]"));
            }
        }
    }
}

/// The last part of a name that a customer's device chose, without what could lead anywhere. A long
/// one is cut in the middle, so that its extension still tells what it is.
fn safe_name(name: &str) -> String {
    const LONGEST: usize = 200;
    const LONGEST_EXTENSION: usize = 20;
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control()).collect();
    let clean = clean.trim();
    if clean.is_empty() {
        return "файл".to_owned();
    }
    if clean.chars().count() <= LONGEST {
        return clean.to_owned();
    }
    let extension = clean.rsplit_once('.').map(|(_, extension)| format!(".{extension}"));
    let extension = extension.filter(|extension| extension.chars().count() <= LONGEST_EXTENSION).unwrap_or_default();
    let stem: String = clean.chars().take(LONGEST - extension.chars().count()).collect();
    format!("{}{extension}", stem.trim_end())
}
