//! The objects of the site: names, columns, sizes, lookups, unique keys, and the rows that every
//! site has (Creatio API reference, 3.1 and 3.2; package contract, "Set-up through OData"). Facts
//! only.

use uuid::{Uuid, uuid};

/// The type of a column. Sizes are UTF-16 units; 0 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Guid,
    /// A Guid that names a row of the object; the column is `<Name>Id`, the navigation property
    /// `<Name>`.
    Lookup(&'static str),
    Text(usize),
    Int,
    Bool,
    Time,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
}

impl Column {
    /// The navigation property of a lookup.
    pub fn navigation(&self) -> Option<&'static str> {
        matches!(self.kind, Kind::Lookup(_)).then(|| self.name.strip_suffix("Id").unwrap_or(self.name))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entity {
    pub name: &'static str,
    columns: &'static [Column],
    pub unique: &'static [&'static [&'static str]],
    /// Comes with the package.
    pub package: bool,
}

impl Entity {
    /// Own columns and those of `BaseEntity`.
    pub fn columns(&self) -> impl Iterator<Item = &'static Column> {
        BASE.iter().chain(self.columns)
    }

    pub fn column(&self, name: &str) -> Option<&'static Column> {
        self.columns().find(|column| column.name == name)
    }

    /// The lookup column behind a navigation property.
    pub fn lookup(&self, navigation: &str) -> Option<(&'static Column, &'static Entity)> {
        self.columns().find_map(|column| match column.kind {
            Kind::Lookup(target) if column.navigation() == Some(navigation) => Some((column, entity(target)?)),
            _ => None,
        })
    }
}

pub(super) fn entity(name: &str) -> Option<&'static Entity> {
    ENTITIES.iter().find(|entity| entity.name == name)
}

const fn guid(name: &'static str) -> Column {
    Column { name, kind: Kind::Guid, required: false }
}
const fn lookup(name: &'static str, target: &'static str) -> Column {
    Column { name, kind: Kind::Lookup(target), required: false }
}
const fn text(name: &'static str, size: usize) -> Column {
    Column { name, kind: Kind::Text(size), required: false }
}
const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int, required: false }
}
const fn boolean(name: &'static str) -> Column {
    Column { name, kind: Kind::Bool, required: false }
}
const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::Time, required: false }
}
const fn required(column: Column) -> Column {
    Column { required: true, ..column }
}

const BASE: &[Column] = &[
    guid("Id"),
    time("CreatedOn"),
    lookup("CreatedById", "Contact"),
    time("ModifiedOn"),
    lookup("ModifiedById", "Contact"),
    int("ProcessListeners"),
];

const fn stock(name: &'static str, columns: &'static [Column]) -> Entity {
    Entity { name, columns, unique: &[], package: false }
}

pub(super) const ENTITIES: &[Entity] = &[
    stock("Account", &[required(text("Name", 250)), text("Phone", 250), text("Web", 250)]),
    stock(
        "Contact",
        &[
            required(text("Name", 250)),
            text("Email", 250),
            text("MobilePhone", 250),
            text("Phone", 250),
            lookup("AccountId", "Account"),
            text("Notes", 0),
        ],
    ),
    stock(
        "SysAdminUnit",
        &[
            required(text("Name", 250)),
            int("SysAdminUnitTypeValue"),
            boolean("Active"),
            lookup("ContactId", "Contact"),
            text("Email", 250),
        ],
    ),
    stock(
        "Case",
        &[
            text("Number", 50),
            text("Subject", 500),
            text("Symptoms", 0),
            text("Notes", 0),
            lookup("ContactId", "Contact"),
        ],
    ),
    stock(
        "Activity",
        &[
            required(text("Title", 500)),
            lookup("ContactId", "Contact"),
            lookup("OmniChatId", "OmniChat"),
            time("StartDate"),
            time("DueDate"),
        ],
    ),
    stock("ChannelProvider", &[required(text("Name", 250)), text("Description", 250), text("PageUrl", 250)]),
    stock(
        "Channel",
        &[
            required(text("Name", 500)),
            lookup("ProviderId", "ChannelProvider"),
            guid("MsgSettingsId"),
            lookup("ChatQueueId", "ChatQueue"),
            text("Source", 250),
            boolean("IsActive"),
        ],
    ),
    stock("OperatorRoutingRules", &[text("Name", 250), text("Code", 50)]),
    stock(
        "ChatQueue",
        &[
            required(text("Name", 250)),
            lookup("OperatorRoutingRuleId", "OperatorRoutingRules"),
            int("SimultaneousChats"),
            int("ChatTimeout"),
            int("TimeToWaitInQueue"),
        ],
    ),
    stock("ChatQueueOperator", &[lookup("OperatorId", "SysAdminUnit"), lookup("ChatQueueId", "ChatQueue")]),
    stock("OmnichannelChatStatus", &[text("Name", 250)]),
    stock(
        "OmniChat",
        &[
            text("Name", 250),
            text("Notes", 0),
            lookup("StatusId", "OmnichannelChatStatus"),
            lookup("ContactId", "Contact"),
            lookup("ChannelId", "Channel"),
            required(lookup("QueueId", "ChatQueue")),
            lookup("OperatorId", "SysAdminUnit"),
            lookup("DirectedOperatorId", "SysAdminUnit"),
            lookup("ParentId", "OmniChat"),
            int("UnprocessedMsgCount"),
            int("LastMessageDirection"),
            text("ChatPreview", 0),
            text("Conversation", 0),
            time("ChatStartDate"),
            time("ChatEndDate"),
            time("AcceptDate"),
            time("CompletionDate"),
            time("CloseDate"),
            int("FirstReplyTime"),
            int("ChatDuration"),
            lookup("CaseId", "Case"),
        ],
    ),
    Entity {
        unique: &[&["ChannelIdentity", "ChannelId"]],
        ..stock(
            "ContactIdentity",
            &[
                lookup("ContactId", "Contact"),
                lookup("ChannelId", "Channel"),
                text("ChannelIdentity", 50),
                boolean("IsGuestUser"),
            ],
        )
    },
    stock(
        "ChatMessages",
        &[
            lookup("OmniChatId", "OmniChat"),
            lookup("ChannelId", "Channel"),
            text("MessageDirection", 50),
            text("Source", 50),
            text("Message", 0),
            text("Sender", 50),
            text("Recipient", 50),
            text("Timestamp", 250),
            time("CreatedDate"),
        ],
    ),
    stock(
        "OmnichannelMessageFile",
        &[text("Name", 250), text("Notes", 0), guid("TypeId"), int("Version"), int("Size"), guid("MessageId")],
    ),
    stock(
        "ContactFile",
        &[text("Name", 250), text("Notes", 0), guid("TypeId"), int("Size"), lookup("ContactId", "Contact")],
    ),
    stock("OperatorState", &[text("Name", 250), text("Code", 50), boolean("OperatorAvailable")]),
    Entity {
        package: true,
        ..stock(
            "MaxChannelSettings",
            &[text("Name", 250), text("NotifyUrl", 500), text("BotUserId", 50), text("Owner", 500)],
        )
    },
    Entity {
        package: true,
        ..stock(
            "MaxOutbox",
            &[
                int("Seq"),
                text("Kind", 50),
                text("ChannelSource", 50),
                guid("ChatId"),
                guid("ParentChatId"),
                text("Recipient", 50),
                guid("AgentId"),
                text("AgentName", 250),
                guid("MessageId"),
                text("MessageType", 50),
                text("Text", 0),
                text("Files", 0),
                text("Reason", 50),
                text("State", 50),
                text("Error", 250),
            ],
        )
    },
    Entity {
        package: true,
        ..stock(
            "MaxInbound",
            &[
                text("ChannelSource", 50),
                text("ExternalId", 250),
                text("Sender", 50),
                text("ReplacesExternalId", 250),
                text("Author", 50),
                guid("MessageId"),
                text("State", 50),
                time("TakenOn"),
                guid("ChatId"),
                guid("ContactId"),
            ],
        )
    },
];

/// The provider row that comes with the package.
pub(super) const PROVIDER_MAX: Uuid = uuid!("889213f3-6d22-55a4-8421-4a8a63914f71");
pub(super) const PROVIDER_TELEGRAM: Uuid = uuid!("645170ab-c67a-4dcc-9def-c0e5236bdfe0");
pub(super) const WAITING: Uuid = uuid!("79bccffa-8c8b-4863-b376-a69d2244182b");
pub(super) const IN_PROGRESS: Uuid = uuid!("81737bdd-60c7-4ef7-bb75-52c53d5c38c1");
pub(super) const COMPLETED: Uuid = uuid!("a1b0184b-0a54-4a47-ba08-a5772105d3b2");
pub(super) const BOT_PROCESSING: Uuid = uuid!("b05fbf72-69ed-41a7-be7c-af3ec13b08c7");
pub(super) const FILE_TYPE: Uuid = uuid!("529bc2f8-0ee0-df11-971b-001d60e938c6");
pub(super) const FOR_EVERYONE: Uuid = uuid!("5f1e4b53-1d1c-4b5f-9a0a-4a1f3f6a9c01");
pub(super) const FOR_FREE: Uuid = uuid!("5f1e4b53-1d1c-4b5f-9a0a-4a1f3f6a9c02");
