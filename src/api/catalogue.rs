//! The catalogue: what each reason of a condition means, which documented error it is, what mends
//! it and who can, in Russian and English. Conditions, events, `maxchannel status`, `check`,
//! `docs/errors.md` and alerts all read it, so that they use the same words.
//!
//! The numbers 1 to 7 are those of the product page, section «Ошибки и решения при подключении
//! канала MAX».

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::conditions::ConditionType;

macro_rules! reasons {
    ($($reason:ident),* $(,)?) => {
        /// The reason of a condition: stable words, the same in conditions, events, metrics and
        /// logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Reason {
            $(#[allow(missing_docs)] $reason),*
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => stringify!($reason)),*
                }
            }
        }
    };
}

reasons! {
    // Success.
    Ready, Valid, Authorized, InSync, CardNotGiven,
    Connected, Resolved, Active, Subscribed, Polling, Available, Delivering,
    NotStalled,
    // Not known.
    NotChecked,
    // Ready alone.
    Suspended, DeletionWaits,
    // SpecValid.
    InvalidSpec,
    // ObjectsApplied.
    Applied, QuotaExceeded, PolicyRefused, RightsMissing, ObjectRefused,
    ForeignObject, VolumeNotResized, RolloutWaiting,
    RolloutHalted,
    // TokenAuthorized.
    TokenNotFound, TokenInvalid, BotUnderModeration, LegalEntityAccessDenied, AuthorizationFailed, BotChanged, BotInUse,
    MaxUnreachable,
    // BotCardInSync.
    CardDiffers,
    // AccountReady; the first two also of CrmConnected.
    CredentialsNotFound, CredentialsInvalid, AccountInUse, Throttled, MangoUnreachable,
    // ReceiverResolved.
    ReceiverNotSelected, EmployeeNotFound, GroupNotFound, GroupEmpty, AgentsMissingInCrm, FallbackServing,
    // AutoRepliesActive.
    AutoRepliesNotConfigured, OffHoursBotActive, RepliedTwice,
    // CrmConnected.
    PackageMissing, PackageOutdated, AccessDenied, ChannelMissing, ChannelInactive, OwnedElsewhere, CrmUnreachable,
    // IntakeReady.
    NotSubscribed, ForeignSubscription, CertificateRejected, MangoNotConnected,
    // RelayAvailable.
    RelayStarting, ConfigPending, StoreUnwritable, StoreMoved, StoreHeld, VolumePending, ImagePullFailed, CrashLooping,
    RelayUnreachable, PodRefused,
    Unschedulable, MountFailed, ContainerFailed, PodNotStarting, NodeLost,
    // DeliveryHealthy.
    Backlog, DeadLetters, CrmDown, MaxThrottled,
    // ManualSteps.
    StepsDone, ManualActionRequired,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|known| known.as_str() == text).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| serde::de::Error::custom(format_args!("{text:?} is not a known reason")))
    }
}

/// The language of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Language {
    #[default]
    #[serde(rename = "en")]
    English,
    #[serde(rename = "ru")]
    Russian,
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "en" => Ok(Self::English),
            "ru" => Ok(Self::Russian),
            other => Err(format!("{other:?} is not a language that is spoken here: give en or ru")),
        }
    }
}

/// How a failure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Worth knowing; `Ready` does not depend on it.
    Informational,
    /// Ends by itself, or by a step that the program takes.
    Waiting,
    /// The other side is away or asks to slow down; forgiven for a while after a success.
    Outage,
    /// Only a person can mend it.
    Stalled,
}

/// Who can mend a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mender {
    /// Who manages the bot and the company's profile in MAX.
    MaxCabinet,
    /// Who manages the account in the MANGO OFFICE cabinet.
    MangoCabinet,
    /// The administrator of the CRM.
    CrmAdmin,
    /// Who writes the manifests and runs the platform.
    Engineer,
    /// Nobody needs to do anything: it ends by itself.
    Nobody,
}

impl Mender {
    pub const fn describe(self, language: Language) -> &'static str {
        match (self, language) {
            (Self::MaxCabinet, Language::English) => "the company's administrator in the cabinet of MAX",
            (Self::MaxCabinet, Language::Russian) => "администратор компании в кабинете MAX",
            (Self::MangoCabinet, Language::English) => "the administrator in the cabinet of MANGO OFFICE",
            (Self::MangoCabinet, Language::Russian) => "администратор в Личном кабинете MANGO OFFICE",
            (Self::CrmAdmin, Language::English) => "the administrator of the CRM",
            (Self::CrmAdmin, Language::Russian) => "администратор CRM",
            (Self::Engineer, Language::English) => "the platform engineer",
            (Self::Engineer, Language::Russian) => "инженер платформы",
            (Self::Nobody, Language::English) => "nobody: it passes on its own",
            (Self::Nobody, Language::Russian) => "никто: проходит само",
        }
    }
}

/// Cause and remedy in one language: one or more sentences each, the cause without a full stop at
/// its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    pub cause: &'static str,
    pub remedy: &'static str,
}

/// What one reason of one condition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub condition: ConditionType,
    pub reason: Reason,
    /// Number of the error on the product page, 1 to 7.
    pub error: Option<u8>,
    pub class: Class,
    pub mender: Mender,
    pub english: Text,
    pub russian: Text,
}

impl Entry {
    pub const fn text(&self, language: Language) -> Text {
        match language {
            Language::English => self.english,
            Language::Russian => self.russian,
        }
    }

    /// The message of a condition: the cause, the detail of this case in brackets, the remedy.
    pub fn message(&self, detail: &str, language: Language) -> String {
        let Text { cause, remedy } = self.text(language);
        let detail = detail.trim();
        if detail.is_empty() { format!("{cause}. {remedy}") } else { format!("{cause} ({detail}). {remedy}") }
    }

    /// What a message of [`Entry::message`], in whichever language, says of its particular case.
    #[must_use]
    pub fn detail<'a>(&self, message: &'a str) -> Option<&'a str> {
        [Language::English, Language::Russian].into_iter().find_map(|language| {
            let Text { cause, remedy } = self.text(language);
            message.strip_prefix(cause)?.strip_suffix(remedy)?.strip_prefix(" (")?.strip_suffix("). ")
        })
    }
}

/// The entry of a reason; `None` for success and for pairs that do not belong together.
pub fn entry(condition: ConditionType, reason: Reason) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.condition == condition && entry.reason == reason)
}

macro_rules! entries {
    ($($condition:ident / $reason:ident, $error:expr, $class:ident, $mender:ident,
        en: $cause:literal => $remedy:literal, ru: $cause_ru:literal => $remedy_ru:literal;)*) => {
        /// Every reason other than success, condition by condition.
        pub const ENTRIES: &[Entry] = &[$(Entry {
            condition: ConditionType::$condition,
            reason: Reason::$reason,
            error: $error,
            class: Class::$class,
            mender: Mender::$mender,
            english: Text { cause: $cause, remedy: $remedy },
            russian: Text { cause: $cause_ru, remedy: $remedy_ru },
        }),*];
    };
}

entries! {
    SpecValid / InvalidSpec, None, Stalled, Engineer,
        en: "The manifest has errors, and the last good configuration stays in force"
            => "Correct the fields that are named; `maxchannel check -f FILE` shows all of them.",
        ru: "В манифесте есть ошибки, действует последняя исправная конфигурация"
            => "Исправьте названные поля; все ошибки показывает `maxchannel check -f FILE`.";

    ObjectsApplied / QuotaExceeded, None, Stalled, Engineer,
        en: "A quota of the namespace leaves no room for the channel's objects"
            => "Raise the ResourceQuota, or free what uses it up; it is retried automatically.",
        ru: "Квота пространства имён не оставляет места для объектов канала"
            => "Увеличьте ResourceQuota или освободите то, что её занимает; попытка повторяется автоматически.";
    ObjectsApplied / PolicyRefused, None, Stalled, Engineer,
        en: "A policy of the cluster refuses an object of the channel"
            => "Change the policy or webhook that is named, or make an exception for the objects of the relays; it is \
                retried automatically.",
        ru: "Политика кластера не пропускает объект канала"
            => "Измените названную политику или вебхук либо сделайте исключение для объектов ретрансляторов; попытка повторяется автоматически.";
    ObjectsApplied / RightsMissing, None, Stalled, Engineer,
        en: "The controller lacks rights in the cluster"
            => "Give its ServiceAccount the rights of the chart's roles (rbac.create); it is retried automatically.",
        ru: "Контроллеру не хватает прав в кластере"
            => "Выдайте его ServiceAccount права из ролей чарта (rbac.create); попытка повторяется автоматически.";
    ObjectsApplied / ObjectRefused, None, Stalled, Engineer,
        en: "The API server does not accept an object of the channel"
            => "Correct what it names; it is retried automatically.",
        ru: "API-сервер не принимает объект канала" => "Исправьте то, что он называет; попытка повторяется автоматически.";
    ObjectsApplied / ForeignObject, None, Stalled, Engineer,
        en: "An object that is not this channel's has a name that the channel needs, and is left untouched"
            => "Delete or rename that object, or give the channel another name.",
        ru: "Имя, нужное каналу, занято чужим объектом, и этот объект не тронут"
            => "Удалите или переименуйте этот объект либо дайте каналу другое имя.";
    ObjectsApplied / VolumeNotResized, None, Stalled, Engineer,
        en: "The relay's volume cannot be changed to what relay.storage asks for; the relay keeps the volume that it has"
            => "Use a StorageClass with allowVolumeExpansion, or give the former size and class again.",
        ru: "Том ретранслятора нельзя изменить так, как требует relay.storage; ретранслятор работает с прежним томом"
            => "Используйте StorageClass с allowVolumeExpansion или верните прежние размер и класс.";
    ObjectsApplied / RolloutWaiting, None, Informational, Nobody,
        en: "The relay goes on as it is: changed relays are replaced a few at a time, and others are being replaced now"
            => "Nothing: its turn comes automatically.",
        ru: "Ретранслятор пока работает в прежнем виде: изменённые ретрансляторы заменяются понемногу, сейчас очередь других"
            => "Ничего делать не нужно: очередь дойдёт автоматически.";
    ObjectsApplied / RolloutHalted, None, Informational, Engineer,
        en: "The relay goes on as it is: a changed relay did not come up, so no others are replaced"
            => "See why that one does not come up; once it does, the others follow automatically.",
        ru: "Ретранслятор пока работает в прежнем виде: один из изменённых ретрансляторов не запустился, поэтому остальные не заменяются"
            => "Выясните, почему он не запускается; как только он заработает, остальные будут заменены автоматически.";

    TokenAuthorized / TokenNotFound, Some(1), Stalled, MaxCabinet,
        en: "The bot's token is missing: MAX has not issued it yet, or nobody has copied it"
            => "Create the bot in MAX, wait until it has passed moderation, copy the token that MAX then shows, and put it into the \
                Secret named by tokenSecretRef.",
        ru: "Токена бота нет: MAX его ещё не выдал, либо его не скопировали"
            => "Создайте чат-бота в MAX, дождитесь окончания модерации, скопируйте выданный токен и поместите его в Secret, указанный \
                в tokenSecretRef.";
    TokenAuthorized / TokenInvalid, Some(2), Stalled, MaxCabinet,
        en: "The token is not valid: it was copied incompletely or with extra characters, has expired or was revoked"
            => "Copy the token from MAX into the Secret again; if it is still refused, issue a new one in MAX.",
        ru: "Токен невалидный: скопирован не полностью или с лишними символами, просрочен либо отозван"
            => "Скопируйте токен из интерфейса MAX в Secret ещё раз; если он снова не принят, выпустите в MAX новый.";
    TokenAuthorized / BotUnderModeration, Some(3), Waiting, MaxCabinet,
        en: "MAX has not finished checking the bot; this takes up to 48 hours on working days"
            => "Wait until the bot is ready for publication; where MAX asks for corrections, its card in MAX names the reason.",
        ru: "Бот ещё на модерации в MAX; проверка занимает до 48 часов по рабочим дням"
            => "Дождитесь статуса «Готов к публикации»; если бот требует исправлений, причина указана в его карточке в MAX.";
    TokenAuthorized / LegalEntityAccessDenied, Some(4), Stalled, MaxCabinet,
        en: "The company has no access in MAX: its partner profile does not exist or is not verified, or it may not create bots"
            => "Register and verify the company's partner profile in MAX; without the right to do so, appoint a representative who \
                may sign first or alone.",
        ru: "Нет доступа юридического лица: профиль партнёра в MAX не создан или не верифицирован, либо у компании нет прав на \
             создание бота"
            => "Зарегистрируйте и верифицируйте профиль партнёра в MAX; если прав нет, назначьте представителя с правом первой или \
                единственной подписи.";
    TokenAuthorized / AuthorizationFailed, Some(5), Stalled, MaxCabinet,
        en: "MAX did not authorise the token, and its answer is not one of the known ones"
            => "Check the bot's status in MAX, make sure that its token was issued, and put it into the Secret again.",
        ru: "Токен не авторизован: MAX отказал, и такого ответа нет среди известных"
            => "Проверьте статус бота в MAX, убедитесь, что токен выдан, и поместите его в Secret ещё раз.";
    TokenAuthorized / BotChanged, None, Stalled, Engineer,
        en: "The Secret now holds the token of another bot, whose customers are others"
            => "Put the former bot's token back or, if the change is intended, annotate the channel with \
                maxchannel.dev/accept-bot: \"<userId of the new bot>\".",
        ru: "В Secret лежит токен другого бота, у которого другие клиенты"
            => "Верните токен прежнего бота, а если замена намеренная, поставьте на канал аннотацию \
                maxchannel.dev/accept-bot: \"<userId нового бота>\".";
    TokenAuthorized / BotInUse, None, Stalled, Engineer,
        en: "Another channel has this bot already, and the older one keeps it"
            => "Delete one of the two channels, or give this one the token of a bot of its own; to move the bot here from another \
                installation annotate this channel with maxchannel.dev/adopt: \"true\".",
        ru: "Этот бот уже подключён другим каналом, он остаётся за более старым"
            => "Удалите один из двух каналов или укажите здесь токен отдельного бота; чтобы перенести бота сюда из другой установки, \
                поставьте на этот канал аннотацию maxchannel.dev/adopt: \"true\".";
    TokenAuthorized / MaxUnreachable, None, Outage, Nobody,
        en: "MAX does not answer" => "It is retried automatically; if this lasts, check the network path from here to the API of MAX.",
        ru: "MAX не отвечает" => "Попытка повторяется автоматически; если это затянулось, проверьте доступ отсюда к API MAX.";

    BotCardInSync / CardDiffers, None, Informational, MaxCabinet,
        en: "The bot's card in MAX differs from botCard in the manifest"
            => "Edit the card in MAX, where it is checked again, or correct botCard.",
        ru: "Карточка бота в MAX отличается от botCard в манифесте"
            => "Исправьте карточку в MAX (она снова пройдёт модерацию) или поправьте botCard.";

    AccountReady / CredentialsNotFound, None, Stalled, Engineer,
        en: "The credentials of MANGO OFFICE are missing"
            => "Create the Secret named by mango.credentialsSecretRef with the keys apiKey and apiSalt from the API connector in the \
                MANGO OFFICE cabinet.",
        ru: "Нет данных для входа в MANGO OFFICE"
            => "Создайте Secret, указанный в mango.credentialsSecretRef, с ключами apiKey и apiSalt из раздела «API коннектор» \
                Личного кабинета MANGO OFFICE.";
    AccountReady / CredentialsInvalid, None, Stalled, MangoCabinet,
        en: "MANGO OFFICE refuses the credentials"
            => "Compare apiKey and apiSalt with the API connector in the MANGO OFFICE cabinet, and its list of allowed addresses with \
                the address from which the program calls.",
        ru: "MANGO OFFICE не принимает данные для входа"
            => "Сверьте apiKey и apiSalt с разделом «API коннектор» Личного кабинета, а список разрешённых адресов — с адресом, с \
                которого идут запросы.";
    AccountReady / AccountInUse, None, Stalled, Engineer,
        en: "Another channel has this account of MANGO OFFICE already: one account carries one MAX channel, and the older one keeps it"
            => "Delete one of the two channels, or give this one an account of its own.",
        ru: "Этот Лицевой счёт MANGO OFFICE уже занят другим каналом: для одного счёта подключается один канал MAX, он остаётся за \
             более старым"
            => "Удалите один из двух каналов или укажите здесь другой Лицевой счёт.";
    AccountReady / Throttled, None, Outage, Nobody,
        en: "MANGO OFFICE asks to slow down or has blocked the key for a while"
            => "It is retried automatically; if this lasts, look for other programs that use the same key.",
        ru: "MANGO OFFICE просит снизить частоту запросов или временно заблокировал ключ"
            => "Попытка повторяется автоматически; если это затянулось, проверьте, не пользуются ли этим ключом другие программы.";
    AccountReady / MangoUnreachable, None, Outage, Nobody,
        en: "MANGO OFFICE does not answer"
            => "It is retried automatically; if this lasts, check the network path from here to the API of MANGO OFFICE.",
        ru: "MANGO OFFICE не отвечает"
            => "Попытка повторяется автоматически; если это затянулось, проверьте доступ отсюда к API MANGO OFFICE.";

    ReceiverResolved / ReceiverNotSelected, Some(6), Stalled, Engineer,
        en: "Nobody is chosen to take the dialogs: customers' messages are kept, but not answered"
            => "Set spec.receiver to an employee, a group or a bot.",
        ru: "Не выбрано, кто принимает обращения: сообщения клиентов сохраняются, но остаются без ответа"
            => "Укажите в spec.receiver сотрудника, группу или чат-бота.";
    ReceiverResolved / EmployeeNotFound, None, Stalled, MangoCabinet,
        en: "The account of MANGO OFFICE has no such employee"
            => "Correct the extension or userId in the manifest, or add the employee in the MANGO OFFICE cabinet.",
        ru: "В Лицевом счёте MANGO OFFICE нет такого сотрудника"
            => "Исправьте extension или userId в манифесте либо добавьте сотрудника в Личном кабинете MANGO OFFICE.";
    ReceiverResolved / GroupNotFound, None, Stalled, MangoCabinet,
        en: "The account of MANGO OFFICE has no such group"
            => "Correct the name or id in the manifest, or add the group in the MANGO OFFICE cabinet.",
        ru: "В Лицевом счёте MANGO OFFICE нет такой группы"
            => "Исправьте name или id в манифесте либо добавьте группу в Личном кабинете MANGO OFFICE.";
    ReceiverResolved / GroupEmpty, None, Stalled, MangoCabinet,
        en: "The group has no employees" => "Add employees to the group in the MANGO OFFICE cabinet.",
        ru: "В группе нет сотрудников" => "Добавьте сотрудников в группу в Личном кабинете MANGO OFFICE.";
    ReceiverResolved / AgentsMissingInCrm, None, Stalled, CrmAdmin,
        en: "The CRM has no active user for those who are to answer"
            => "Give the users in the CRM the e-mail addresses of the employees in MANGO OFFICE and make them active, or name their \
                logins by crmUser or crmUsers.",
        ru: "В CRM нет активных пользователей для тех, кто должен отвечать"
            => "Укажите пользователям CRM те же адреса e-mail, что у сотрудников в MANGO OFFICE, и сделайте их активными, либо назовите \
                их логины в crmUser или crmUsers.";
    ReceiverResolved / FallbackServing, None, Informational, Engineer,
        en: "The bot does not answer, and its fallback takes the dialogs"
            => "Fix the bot; it gets new dialogs again as soon as it answers.",
        ru: "Чат-бот не отвечает, обращения принимает его замена"
            => "Почините чат-бота; как только он ответит, новые обращения снова пойдут к нему.";

    AutoRepliesActive / AutoRepliesNotConfigured, Some(7), Informational, Engineer,
        en: "No automatic replies are set, so customers see none" => "Add autoReplies with their times and texts.",
        ru: "Автоответы не отображаются: они не настроены" => "Добавьте autoReplies и задайте тайминги и тексты.";
    AutoRepliesActive / OffHoursBotActive, Some(7), Informational, Engineer,
        en: "It is off hours and the bot answers, so customers see no automatic replies: the two exclude each other"
            => "Nothing is wrong if that is intended; otherwise replace offHours.bot by offHours.autoReplies.",
        ru: "Автоответы не отображаются: в нерабочее время отвечает чат-бот, одновременно их использовать нельзя"
            => "Если так и задумано, делать ничего не нужно; иначе замените offHours.bot на offHours.autoReplies.";
    AutoRepliesActive / RepliedTwice, None, Informational, MangoCabinet,
        en: "The cabinet of MANGO OFFICE sends automatic messages of its own, so customers get two sets of them"
            => "Keep one of the two: switch «Автоматические ответы», «Показывать сообщение при закрытии обращения» and the replies of \
                «Нерабочее время» off under Инструменты → Манго Диалоги → Группы каналов → Max, or remove autoReplies and closeMessage from the \
                manifest.",
        ru: "Кабинет MANGO OFFICE отправляет свои автоматические сообщения, и клиенты получают их дважды"
            => "Оставьте одно из двух: выключите «Автоматические ответы», «Показывать сообщение при закрытии обращения» и автоответы блока \
                «Нерабочее время» в разделе Инструменты → Манго Диалоги → Группы каналов → Max либо уберите autoReplies и closeMessage из \
                манифеста.";

    CrmConnected / CredentialsNotFound, None, Stalled, Engineer,
        en: "The credentials of the CRM are missing"
            => "Create the Secret named by creatio.credentialsSecretRef with the keys clientId and clientSecret, or username and \
                password.",
        ru: "Нет данных для входа в CRM"
            => "Создайте Secret, указанный в creatio.credentialsSecretRef, с ключами clientId и clientSecret или username и password.";
    CrmConnected / CredentialsInvalid, None, Stalled, CrmAdmin,
        en: "The CRM refuses the credentials"
            => "Compare the Secret with the OAuth client, or with the technical user, in the CRM; the user must be active.",
        ru: "CRM не принимает данные для входа"
            => "Сверьте Secret с клиентом OAuth или техническим пользователем в CRM; пользователь должен быть активен.";
    CrmConnected / PackageMissing, None, Stalled, CrmAdmin,
        en: "The package MaxChannel is not installed in the CRM, or speaks another contract"
            => "Install the package of this release: maxchannel creatio-install, or by hand from the file that maxchannel \
                creatio-package writes (docs/creatio.md).",
        ru: "В CRM не установлен пакет MaxChannel, либо его версия несовместима"
            => "Установите пакет этого выпуска: maxchannel creatio-install или вручную из файла, который создаёт maxchannel \
                creatio-package (docs/creatio.md).";
    CrmConnected / PackageOutdated, None, Informational, CrmAdmin,
        en: "The package MaxChannel in the CRM is older than this release, and serves all the same"
            => "Upgrade it in a quiet hour: maxchannel creatio-install (docs/creatio.md).",
        ru: "Пакет MaxChannel в CRM старее этого выпуска, но работает"
            => "Обновите его в спокойное время: maxchannel creatio-install (docs/creatio.md).";
    CrmConnected / AccessDenied, None, Stalled, CrmAdmin,
        en: "The technical user lacks rights in the CRM that the channel needs"
            => "Give the technical user the rights of the package MaxChannel.",
        ru: "Техническому пользователю не хватает прав в CRM" => "Выдайте техническому пользователю права пакета MaxChannel.";
    CrmConnected / ChannelMissing, None, Waiting, CrmAdmin,
        en: "The channel's rows are missing from the CRM"
            => "They are created at the next check; if this lasts, check the technical user's rights.",
        ru: "В CRM нет записей канала"
            => "Они создаются при следующей проверке; если это затянулось, проверьте права технического пользователя.";
    CrmConnected / ChannelInactive, None, Waiting, CrmAdmin,
        en: "The channel is switched off in the CRM"
            => "It is switched on at the next check; use spec.suspend to stop it on purpose.",
        ru: "Канал выключен в CRM"
            => "Он включается при следующей проверке; чтобы остановить его намеренно, используйте spec.suspend.";
    CrmConnected / OwnedElsewhere, None, Stalled, Engineer,
        en: "The channel in the CRM belongs to another installation or resource"
            => "Remove it there or, to take it over, annotate this channel with maxchannel.dev/adopt: \"true\".",
        ru: "Канал в CRM принадлежит другой установке или другому ресурсу"
            => "Удалите его там, а чтобы забрать себе, поставьте на этот канал аннотацию maxchannel.dev/adopt: \"true\".";
    CrmConnected / CrmUnreachable, None, Outage, CrmAdmin,
        en: "The CRM does not answer, or its answer is not Creatio's"
            => "Messages are kept, and the connection is retried automatically; if this lasts, check creatio.url and the CRM itself.",
        ru: "CRM не отвечает или отвечает не так, как должна"
            => "Сообщения сохраняются, попытка повторяется автоматически; если это затянулось, проверьте creatio.url и саму CRM.";

    IntakeReady / NotSubscribed, None, Waiting, Nobody,
        en: "MAX does not send the updates to this relay yet"
            => "The subscription is created automatically; if this lasts, the detail names what MAX refuses.",
        ru: "MAX ещё не присылает обновления этому каналу"
            => "Подписка оформляется сама; если это затянулось, в подробностях указано, что не принимает MAX.";
    IntakeReady / ForeignSubscription, None, Stalled, Engineer,
        en: "Another program has subscribed to this bot, and its updates go there"
            => "Remove the other program's subscription, or set intake.onForeignSubscription: Remove.",
        ru: "На бота подписана другая программа, и обновления уходят ей"
            => "Удалите подписку другой программы или задайте intake.onForeignSubscription: Remove.";
    IntakeReady / CertificateRejected, None, Stalled, Engineer,
        en: "MAX does not trust the certificate of the public address"
            => "Serve a certificate of a public authority for that name, with its whole chain, on port 443.",
        ru: "MAX не доверяет сертификату публичного адреса"
            => "Установите на порт 443 сертификат публичного центра для этого имени со всей цепочкой.";
    IntakeReady / MangoNotConnected, None, Stalled, MangoCabinet,
        en: "The channel MAX is not connected in the MANGO OFFICE cabinet"
            => "Open Инструменты → Манго Диалоги, the tile «Max», put the bot's token there and save.",
        ru: "Канал MAX не подключён в Личном кабинете MANGO OFFICE"
            => "Откройте Инструменты → Манго Диалоги, плитку «Max», вставьте токен бота и сохраните.";

    RelayAvailable / RelayStarting, None, Waiting, Nobody,
        en: "The relay is not running yet" => "It starts once MAX has accepted the token; if TokenAuthorized is True, wait a moment.",
        ru: "Ретранслятор ещё не работает" => "Он запустится, когда MAX примет токен; если TokenAuthorized равно True, подождите немного.";
    RelayAvailable / ConfigPending, None, Waiting, Nobody,
        en: "The relay has not applied the changed configuration yet" => "Wait a moment.",
        ru: "Ретранслятор ещё не применил изменённую конфигурацию" => "Подождите немного.";
    RelayAvailable / StoreUnwritable, None, Waiting, Engineer,
        en: "The relay cannot write to its disk"
            => "Free space on its volume or data folder, and check its permissions. Webhooks are answered 503 meanwhile, so MAX keeps the messages.",
        ru: "Ретранслятор не может писать на свой диск"
            => "Освободите место на его томе или в папке данных и проверьте права. Вебхукам пока отвечает 503, поэтому сообщения хранит MAX.";
    RelayAvailable / StoreMoved, None, Stalled, Engineer,
        en: "The relay's store was taken out with `maxchannel export`, so nothing is carried from here"
            => "Bring the file in where the channel is to go on (`maxchannel import`); if it was not brought in anywhere, put the store to work \
                here again with `maxchannel export --undo`. Webhooks are refused meanwhile, so MAX keeps the messages.",
        ru: "Хранилище ретранслятора выгружено командой `maxchannel export`, и отсюда ничего не передаётся"
            => "Загрузите файл там, где канал должен работать дальше (`maxchannel import`); если его нигде не загружали, верните хранилище в \
                работу командой `maxchannel export --undo`. Вебхуки пока отклоняются, поэтому сообщения хранит MAX.";
    RelayAvailable / StoreHeld, None, Waiting, Nobody,
        en: "The relay's store is being written out or brought in, and the relay stands still meanwhile"
            => "Wait a moment: the relay goes on automatically.",
        ru: "Хранилище ретранслятора сейчас выгружается или загружается, и ретранслятор на это время остановлен"
            => "Подождите немного: ретранслятор продолжит работу автоматически.";
    RelayAvailable / VolumePending, None, Waiting, Engineer,
        en: "The relay's volume is not available yet"
            => "If this lasts, check the volume claim and its StorageClass.",
        ru: "Том ретранслятора ещё не выделен" => "Если это затянулось, проверьте запрос тома и его StorageClass.";
    RelayAvailable / ImagePullFailed, None, Stalled, Engineer,
        en: "The relay's image cannot be pulled"
            => "Check the image's name and registry, and relay.imagePullSecrets.",
        ru: "Не удаётся скачать образ ретранслятора" => "Проверьте имя и реестр образа, а также relay.imagePullSecrets.";
    RelayAvailable / CrashLooping, None, Stalled, Engineer,
        en: "The relay keeps stopping" => "Read the log of its pod; messages that were acknowledged are on its volume.",
        ru: "Ретранслятор раз за разом останавливается" => "Прочитайте журнал его пода; принятые сообщения сохранены на томе.";
    RelayAvailable / PodRefused, None, Stalled, Engineer,
        en: "The cluster refuses the relay's pod or its volume claim"
            => "Raise the quota, or change the policy, that is named; the pod is created again automatically.",
        ru: "Кластер не принимает под ретранслятора или запрос его тома"
            => "Увеличьте названную квоту или измените политику; под будет создан сам.";
    RelayAvailable / Unschedulable, None, Stalled, Engineer,
        en: "No node takes the relay's pod"
            => "Add room or nodes, or change relay.resources, relay.nodeSelector or relay.tolerations.",
        ru: "Ни один узел не принимает под ретранслятора"
            => "Добавьте ресурсы или узлы либо измените relay.resources, relay.nodeSelector или relay.tolerations.";
    RelayAvailable / MountFailed, None, Stalled, Engineer,
        en: "A volume of the relay's pod cannot be mounted"
            => "Check the volume, its storage driver on the node, and whether another pod uses it.",
        ru: "Не удаётся подключить том к поду ретранслятора"
            => "Проверьте том, драйвер хранилища на узле и то, не занят ли том другим подом.";
    RelayAvailable / ContainerFailed, None, Stalled, Engineer,
        en: "The node cannot create the relay's container" => "Correct what the node names.",
        ru: "Узел не может создать контейнер ретранслятора" => "Исправьте то, что называет узел.";
    RelayAvailable / PodNotStarting, None, Stalled, Engineer,
        en: "The node keeps failing to start the relay's pod" => "Check the node and what it reports.",
        ru: "Узел раз за разом не может запустить под ретранслятора" => "Проверьте узел и то, что он называет.";
    RelayAvailable / NodeLost, None, Stalled, Engineer,
        en: "The node of the relay's pod no longer responds, and the pod is not replaced while it may still run there"
            => "Bring the node back; if it is gone for good, delete its Node object, and the pod is created on another one.",
        ru: "Узел, на котором работает под ретранслятора, больше не отвечает, и под не заменяется, пока может работать там"
            => "Верните узел в строй; если его больше нет, удалите его объект Node, и под будет создан на другом узле.";
    RelayAvailable / RelayUnreachable, None, Outage, Engineer,
        en: "The relay does not answer" => "If this lasts, check its pod, its node and the network policies.",
        ru: "Ретранслятор не отвечает" => "Если это затянулось, проверьте его под, узел и сетевые политики.";

    DeliveryHealthy / Backlog, None, Informational, Nobody,
        en: "The oldest waiting message is more than 60 s old" => "Order is kept and nothing is lost; see what is slow.",
        ru: "Самое старое сообщение ждёт больше 60 секунд" => "Порядок сохраняется, ничего не теряется; проверьте, что замедлилось.";
    DeliveryHealthy / DeadLetters, None, Informational, Engineer,
        en: "Some messages could not be delivered and were set aside with their reasons"
            => "List them with `maxchannel dead-letters`, and replay them once the reason is gone.",
        ru: "Часть сообщений не удалось доставить, они отложены с указанием причины"
            => "Посмотрите их командой `maxchannel dead-letters` и отправьте снова, когда причина устранена.";
    DeliveryHealthy / CrmDown, None, Informational, CrmAdmin,
        en: "The CRM is not accepting messages" => "They are kept and delivered in order when it is back.",
        ru: "CRM сейчас не принимает сообщения" => "Они сохраняются и будут доставлены по порядку, когда она вернётся.";
    DeliveryHealthy / MaxThrottled, None, Informational, Nobody,
        en: "MAX asks to send more slowly" => "The relay slows down automatically; answers arrive later.",
        ru: "MAX просит отправлять реже" => "Ретранслятор снижает темп сам; ответы приходят с задержкой.";

    ManualSteps / ManualActionRequired, None, Informational, MangoCabinet,
        en: "MANGO OFFICE lets no program make these settings: a person makes them in its cabinet"
            => "A step vanishes from this list once it is seen done.",
        ru: "Эти настройки MANGO OFFICE не доверяет программам: их делает человек в Личном кабинете"
            => "Шаг исчезает из списка, когда видно, что он сделан.";

    Ready / DeletionWaits, None, Waiting, Engineer,
        en: "The channel is being deleted, which waits so that no message is lost"
            => "It ends automatically once everything is delivered; `maxchannel dead-letters` shows what was given up and `maxchannel export` \
                keeps the store. To drop the messages annotate the channel with maxchannel.dev/force-delete: \"true\".",
        ru: "Канал удаляется, но удаление ждёт, чтобы ни одно сообщение не пропало"
            => "Удаление завершится само, когда всё будет доставлено; недоставленное показывает `maxchannel dead-letters`, а \
                `maxchannel export` сохраняет хранилище. Чтобы отказаться от сообщений, поставьте на канал аннотацию \
                maxchannel.dev/force-delete: \"true\".";
    Ready / Suspended, None, Waiting, Engineer,
        en: "The channel is suspended" => "Set spec.suspend to false to go on.",
        ru: "Канал приостановлен" => "Чтобы продолжить, задайте spec.suspend: false.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_error_has_its_reason() {
        let numbered: Vec<(u8, &str)> =
            ENTRIES.iter().filter_map(|entry| Some((entry.error?, entry.reason.as_str()))).collect();
        assert_eq!(
            numbered,
            [
                (1, "TokenNotFound"),
                (2, "TokenInvalid"),
                (3, "BotUnderModeration"),
                (4, "LegalEntityAccessDenied"),
                (5, "AuthorizationFailed"),
                (6, "ReceiverNotSelected"),
                (7, "AutoRepliesNotConfigured"),
                (7, "OffHoursBotActive"),
            ]
        );
    }

    #[test]
    fn every_entry_is_there_once_and_says_cause_and_remedy_in_both_languages() {
        for (index, entry) in ENTRIES.iter().enumerate() {
            let pair = (entry.condition, entry.reason);
            assert!(
                ENTRIES[index + 1..].iter().all(|other| (other.condition, other.reason) != pair),
                "{pair:?} is twice"
            );
            for text in [entry.english, entry.russian] {
                assert!(!text.cause.is_empty() && !text.cause.ends_with('.'), "{pair:?}: {}", text.cause);
                assert!(text.remedy.ends_with('.'), "{pair:?}: {}", text.remedy);
            }
            assert!(entry.russian.cause.chars().any(|c| ('а'..='я').contains(&c)), "{pair:?}");
            assert!(entry.message("x", Language::Russian).contains(" (x). "), "{pair:?}");
            for language in [Language::English, Language::Russian] {
                assert_eq!(entry.detail(&entry.message("x (y). z", language)), Some("x (y). z"), "{pair:?}");
                assert_eq!(entry.detail(&entry.message("", language)), None, "{pair:?}");
            }
        }
    }

    #[test]
    fn outages_are_those_whose_names_say_so_and_what_ready_ignores_is_informational() {
        for entry in ENTRIES {
            let name = entry.reason.as_str();
            let outage = name.ends_with("Unreachable") || name == "Throttled";
            assert_eq!(entry.class == Class::Outage, outage, "{name}");
            let counts = ConditionType::READY.contains(&entry.condition) || entry.condition == ConditionType::Ready;
            let beside = ["FallbackServing", "PackageOutdated", "RolloutWaiting", "RolloutHalted"].contains(&name);
            assert_eq!(entry.class == Class::Informational, !counts || beside, "{name}");
        }
    }
}
