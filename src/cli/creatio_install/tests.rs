//! The installation against a whole site: every way it can end, a lost answer, and a site that is
//! restarting.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxchannel_simulator::creatio::{self as site, Answer, Fault, Installation, Runtime as SiteRuntime};
use secrecy::SecretString;

use crate::creatio::install::{InstallError, Pace, Package, Progress};
use crate::creatio::{Class, Client, Credentials, Runtime, Settings};
use crate::creatio_package::{self, Form, NAME, VERSION};
use crate::transport::{ReqwestTransport, Trust};

const OLD: &str = "0.9.0";

struct Site {
    simulator: site::Simulator,
    administrator: uuid::Uuid,
    seen: Arc<Mutex<Vec<Progress>>>,
}

impl Site {
    async fn start(runtime: SiteRuntime) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let simulator = site::Simulator::start(site::Options { runtime, ..site::Options::default() }).await.unwrap();
        let administrator = simulator.control().add_login("Администратор", "admin", "invented-admin-password");
        simulator.control().admit(administrator, true);
        Self { simulator, administrator, seen: Arc::default() }
    }

    fn client(&self, username: &str, password: &str) -> Client {
        let transport = ReqwestTransport::direct(Trust::public()).unwrap();
        let settings = Settings {
            url: self.simulator.url().parse().unwrap(),
            identity_url: None,
            runtime: Runtime::Auto,
            credentials: Credentials::Forms {
                username: username.to_owned(),
                password: SecretString::from(password.to_owned()),
            },
            requests_per_second: 10_000,
            in_flight: 8,
        };
        Client::new(Arc::new(transport), settings)
    }

    async fn install(&self, client: &Client) -> Result<(), InstallError> {
        let package = Package {
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            file_name: creatio_package::archive_name(false),
            bytes: creatio_package::package(Form::Assembly).unwrap().into(),
        };
        let pace = Pace {
            interval: Duration::from_millis(20),
            build_after: Duration::from_millis(200),
            wait: Duration::from_secs(2),
        };
        let seen = Arc::clone(&self.seen);
        client.install(&package, true, pace, &move |progress| seen.lock().unwrap().push(progress)).await
    }

    async fn as_administrator(&self) -> Result<(), InstallError> {
        self.install(&self.client("admin", "invented-admin-password")).await
    }

    fn log(&self) -> String {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter_map(|one| if let Progress::Log(line) = one { Some(line.as_str()) } else { None }).collect()
    }
}

#[test]
fn two_crms_of_one_host_are_two_sites_and_two_ways_to_write_one_are_one() {
    let of = |url: &str| super::site(&url.parse().unwrap());
    let sites = ["https://crm.acme.ru", "http://crm.acme.ru", "https://crm.acme.ru:8443", "https://crm.acme.ru/sales"];
    let all: std::collections::BTreeSet<String> = sites.into_iter().map(of).collect();
    assert_eq!(all.len(), sites.len(), "{all:?}");
    assert_eq!(of("https://CRM.acme.ru:443/sales/"), "https://crm.acme.ru/sales");
}

#[tokio::test]
async fn a_new_version_is_uploaded_installed_and_answers_after_the_restart_on_both_runtimes() {
    for runtime in [SiteRuntime::Net, SiteRuntime::Framework] {
        let site = Site::start(runtime).await;
        site.simulator.control().installer(OLD, Installation::Succeeds, 300);
        site.as_administrator().await.unwrap();
        let seen = site.seen.lock().unwrap().clone();
        assert_eq!(seen.first(), Some(&Progress::Found(Some(OLD.to_owned()))));
        assert_eq!(seen.last(), Some(&Progress::Installed(VERSION.to_owned())));
        assert!(seen.contains(&Progress::BackingUp) && seen.contains(&Progress::Restarting), "{seen:?}");
        assert!(site.log().contains(&format!("Installing package {NAME} {VERSION}")), "{}", site.log());
        // Again: nothing is to be done.
        site.seen.lock().unwrap().clear();
        site.as_administrator().await.unwrap();
        assert_eq!(site.seen.lock().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn an_administrator_who_may_not_use_the_service_installs_it_once_and_sees_that_it_is_there() {
    for runtime in [SiteRuntime::Net, SiteRuntime::Framework] {
        let site = Site::start(runtime).await;
        site.simulator.control().installer(OLD, Installation::Succeeds, 300);
        site.simulator.control().admit(site.administrator, false);
        site.as_administrator().await.unwrap();
        let seen = site.seen.lock().unwrap().clone();
        assert_eq!(seen.first(), Some(&Progress::Found(Some(OLD.to_owned()))));
        assert_eq!(seen.last(), Some(&Progress::Installed(VERSION.to_owned())));
        assert!(!seen.contains(&Progress::Compiling), "{seen:?}");
        site.seen.lock().unwrap().clear();
        site.as_administrator().await.unwrap();
        assert_eq!(site.seen.lock().unwrap().len(), 2, "it is there already");
        // For a relay it is a right that is missing, whatever the answer says beside it.
        let error = site.client("admin", "invented-admin-password").ping().await.unwrap_err();
        assert_eq!(error.class(), Class::AccessDenied, "{error}");
    }
}

#[tokio::test]
async fn every_failure_has_its_own_words() {
    let cases: [(&str, Installation, &str); 3] = [
        ("compile", Installation::DoesNotCompile, "MaxInbox.cs(12,34): error CS0246"),
        ("dependency", Installation::LacksDependency, "lacks the package OmnichannelMessaging"),
        ("modified", Installation::SkipsModified, "modified on the site (Schema \"MaxOutbox\" is skipped)"),
    ];
    for (what, outcome, words) in cases {
        let site = Site::start(SiteRuntime::Net).await;
        site.simulator.control().installer(OLD, outcome, 0);
        let error = site.as_administrator().await.unwrap_err().to_string();
        assert!(error.contains(words), "{what}: {error}");
    }
    // The relay's own user has no business here, and a site that never serves the new version is
    // told of.
    let site = Site::start(SiteRuntime::Net).await;
    site.simulator.control().installer(OLD, Installation::Succeeds, 0);
    let technical = site::Options::default();
    let error = site.install(&site.client(&technical.login, &technical.password)).await.unwrap_err();
    assert!(matches!(error, InstallError::NoRights { .. }), "{error}");
    site.simulator.control().installer(OLD, Installation::Succeeds, 3_600_000);
    let error = site.as_administrator().await.unwrap_err();
    assert!(matches!(error, InstallError::NotServed { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_answer_and_a_site_that_wants_to_be_told_to_compile_end_well() {
    let site = Site::start(SiteRuntime::Net).await;
    site.simulator.control().installer(OLD, Installation::Succeeds, 0);
    site.simulator.control().fault(Fault {
        path: "/ServiceModel/PackageInstallerService.svc/InstallPackage".to_owned(),
        answer: Answer::Drop,
        ..Fault::default()
    });
    site.as_administrator().await.unwrap();
    assert!(site.seen.lock().unwrap().iter().any(|one| matches!(one, Progress::AnswerLost(_))));

    let site = Site::start(SiteRuntime::Net).await;
    site.simulator.control().installer(OLD, Installation::WantsBuild, 0);
    site.simulator.control().install_package(false);
    site.as_administrator().await.unwrap();
    assert!(site.seen.lock().unwrap().contains(&Progress::Compiling));
}

#[tokio::test]
async fn an_error_of_an_earlier_installation_is_not_taken_for_one_of_this_where_the_log_could_not_be_read_at_first() {
    let site = Site::start(SiteRuntime::Net).await;
    site.simulator.control().installer(OLD, Installation::DoesNotCompile, 0);
    site.as_administrator().await.unwrap_err();
    site.simulator.control().installer(OLD, Installation::Succeeds, 0);
    site.simulator.control().fault(Fault {
        path: "/ServiceModel/PackageInstallerService.svc/GetLogFile".to_owned(),
        answer: Answer::Drop,
        ..Fault::default()
    });
    site.as_administrator().await.unwrap();
}

#[tokio::test]
async fn a_removed_package_is_gone() {
    let site = Site::start(SiteRuntime::Net).await;
    let client = site.client("admin", "invented-admin-password");
    client.uninstall(NAME).await.unwrap();
    assert_eq!(client.ping().await.unwrap_err().class(), Class::PackageMissing);
}
