//! Who takes the dialogs: the receiver of the manifest among the employees and groups of MANGO
//! OFFICE, and the same people among the users of the CRM. Pure.

use uuid::Uuid;

use crate::api::{self, Reason, ReceiverRef};
use crate::contract::config::MangoEmployee;
use crate::creatio::User;

/// An employee of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// `general.user_id`; 0 where the answer carries none.
    pub id: i64,
    pub extension: String,
    pub name: String,
    /// Empty where MANGO has none.
    pub email: String,
    /// Ids of the groups that the employee's own card names.
    pub groups: Vec<i64>,
}

/// A group of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonGroup {
    pub id: i64,
    pub name: String,
    /// Ids of the members as the group lists them.
    pub members: Vec<i64>,
}

/// Everything that MANGO lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub people: Vec<Person>,
    pub groups: Vec<PersonGroup>,
    /// The channels of MAX in the cabinet; looked at only where the dialogs come through them.
    pub channels: Vec<CabinetChannel>,
}

/// A channel of MAX in the cabinet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CabinetChannel {
    /// The name of its group of channels, and whether that is switched on.
    pub name: String,
    pub enabled: bool,
    /// Whom the cabinet gives its dialogs to.
    pub group: Option<i64>,
    pub employee: Option<i64>,
    /// The customer chooses whom by a question.
    pub asks: bool,
}

impl Directory {
    /// The channel of MAX: an account has one, and of several the one that is switched on counts.
    #[must_use]
    pub fn channel(&self) -> Option<&CabinetChannel> {
        self.channels.iter().find(|channel| channel.enabled).or(self.channels.first())
    }
}

impl CabinetChannel {
    /// Whether the cabinet gives the dialogs to those whom the manifest names, as far as can be
    /// told.
    #[must_use]
    pub fn serves(&self, resolved: &Resolved, directory: &Directory) -> bool {
        match (self.group, self.employee) {
            (Some(group), _) => {
                let named = directory.groups.iter().find(|known| known.id == group);
                named.is_none_or(|named| resolved.is_group && named.name.trim() == resolved.name.trim())
            }
            // Where the numbers of the two programs differ nothing can be told.
            (None, Some(employee)) if directory.people.iter().any(|person| person.id == employee) => {
                !resolved.is_group && resolved.takers.iter().any(|taker| taker.person.id == employee)
            }
            _ => !self.asks,
        }
    }
}

/// How Creatio hands dialogs to agents: the `Code` of its routing rules (wire contract,
/// `ChatQueue`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    ForFree,
    ForEveryone,
}

impl Routing {
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::ForFree => "ForFree",
            Self::ForEveryone => "ForEveryone",
        }
    }
}

/// One who shall take dialogs, and the login in the CRM where the manifest names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    pub person: Person,
    pub crm_user: Option<String>,
}

/// The people behind a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub takers: Vec<Taker>,
    pub routing: Routing,
    pub dialogs_per_agent: i64,
    /// A group, as against one employee.
    pub is_group: bool,
    /// The name of the group or employee, for people.
    pub name: String,
    /// The receiver is a bot, and these people stand behind it.
    pub behind_bot: bool,
}

/// Why nobody can be named: a reason of `ReceiverResolved` and what this case adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    pub reason: Reason,
    pub detail: String,
}

/// A single employee takes as many as come: nobody else could take what is held back. Creatio's
/// rule for everyone does not count them (Creatio API reference, "Routing"), the column is filled
/// all the same.
const DIALOGS_OF_ONE: i64 = 100;

/// Finds the receiver's people.
///
/// # Errors
/// The reason of `ReceiverResolved` and the detail.
pub fn resolve(receiver: Option<&api::Receiver>, directory: &Directory) -> Result<Resolved, Unresolved> {
    let failed = |reason, detail: String| Err(Unresolved { reason, detail });
    let Some(receiver) = receiver else { return failed(Reason::ReceiverNotSelected, String::new()) };
    let behind_bot = matches!(receiver.get(), Some(ReceiverRef::Bot(_)));
    match receiver.people() {
        Some(ReceiverRef::Employee(wanted)) => {
            let found = directory.people.iter().find(|person| {
                wanted
                    .user_id
                    .map_or_else(|| wanted.extension.as_ref() == Some(&person.extension), |id| id == person.id)
            });
            let Some(person) = found else {
                return failed(Reason::EmployeeNotFound, called(wanted));
            };
            Ok(Resolved {
                is_group: false,
                name: shown(person),
                takers: vec![Taker { person: person.clone(), crm_user: wanted.crm_user.clone() }],
                routing: Routing::ForEveryone,
                dialogs_per_agent: DIALOGS_OF_ONE,
                behind_bot,
            })
        }
        Some(ReceiverRef::Group(wanted)) => {
            let mut found = directory.groups.iter().filter(|group| match (&wanted.name, wanted.id) {
                (_, Some(id)) => group.id == id,
                (Some(name), None) => group.name.trim() == name.trim(),
                (None, None) => false,
            });
            let name = wanted.name.clone().unwrap_or_else(|| wanted.id.map(|id| id.to_string()).unwrap_or_default());
            let Some(group) = found.next() else { return failed(Reason::GroupNotFound, name) };
            if found.next().is_some() {
                return failed(Reason::GroupNotFound, format!("several groups are called {name}: give the id instead"));
            }
            let takers: Vec<Taker> = directory
                .people
                .iter()
                .filter(|person| group.members.contains(&person.id) || person.groups.contains(&group.id))
                .map(|person| Taker {
                    crm_user: wanted
                        .crm_users
                        .iter()
                        .find(|user| user.extension == person.extension)
                        .map(|user| user.crm_user.clone()),
                    person: person.clone(),
                })
                .collect();
            if takers.is_empty() {
                return failed(Reason::GroupEmpty, group.name.clone());
            }
            Ok(Resolved {
                is_group: true,
                name: group.name.clone(),
                takers,
                routing: match wanted.distribution {
                    api::Distribution::LeastLoaded => Routing::ForFree,
                    api::Distribution::Everyone => Routing::ForEveryone,
                },
                dialogs_per_agent: i64::from(wanted.max_dialogs_per_agent),
                behind_bot,
            })
        }
        _ => failed(Reason::ReceiverNotSelected, String::new()),
    }
}

fn called(wanted: &api::Employee) -> String {
    match (&wanted.extension, wanted.user_id) {
        (Some(extension), _) => format!("extension {extension}"),
        (None, Some(id)) => format!("userId {id}"),
        (None, None) => String::new(),
    }
}

fn shown(person: &Person) -> String {
    if person.extension.is_empty() { person.name.clone() } else { format!("{} ({})", person.name, person.extension) }
}

/// The people as users of the CRM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agents {
    /// Id of the `SysAdminUnit` and the name to show, each user once.
    pub found: Vec<(Uuid, String)>,
    /// Those without a user, for people.
    pub missing: Vec<String>,
}

/// The people by their users in the CRM; see [`agents`].
#[must_use]
pub fn employees(resolved: &Resolved, users: &[User]) -> Vec<MangoEmployee> {
    let with_user = resolved.takers.iter().filter_map(|Taker { person, crm_user }| {
        let user = users.iter().find(|user| match crm_user {
            Some(name) => user.has_name(name),
            None => user.has_email(&person.email),
        });
        user.map(|user| MangoEmployee { crm_user: user.id, id: person.id })
    });
    with_user.filter(|employee| employee.id != 0).collect()
}

/// Matches people and users: by the login that the manifest names, else by e-mail, both without
/// case (wire contract, "Set-up through OData").
#[must_use]
pub fn agents(resolved: &Resolved, users: &[User]) -> Agents {
    let mut agents = Agents::default();
    for Taker { person, crm_user } in &resolved.takers {
        let user = users.iter().find(|user| match crm_user {
            Some(name) => user.has_name(name),
            None => user.has_email(&person.email),
        });
        match (user, crm_user) {
            (Some(user), _) if agents.found.iter().all(|(id, _)| *id != user.id) => {
                agents.found.push((user.id, shown(person)));
            }
            (Some(_), _) => {}
            (None, Some(name)) => agents.missing.push(format!("{}: no active user {name}", shown(person))),
            (None, None) if person.email.is_empty() => {
                agents.missing.push(format!("{}: no e-mail in MANGO OFFICE", shown(person)));
            }
            (None, None) => agents.missing.push(format!("{}: no active user with {}", shown(person), person.email)),
        }
    }
    agents
}
