//! `maxchannel check` and `maxchannel crd` as a user or a CI sees them: what is printed, and the exit code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn maxchannel(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("the program starts")
}

fn out(output: &Output) -> (i32, String) {
    (output.status.code().expect("an exit code"), String::from_utf8(output.stdout.clone()).expect("UTF-8"))
}

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("maxchannel-check-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).expect("the example")
}

#[test]
fn the_examples_are_without_findings() {
    let checked =
        maxchannel(&["check", "-f", "examples/channel.yaml", "examples/minimal.yaml", "-f", "examples/secrets.yaml"]);
    assert_eq!(out(&checked), (0, "2 channels checked: nothing is wrong\n".to_owned()));
}

#[test]
fn every_finding_is_one_line_with_file_line_and_field_and_errors_end_in_exit_code_1() {
    let folder = Folder::new("lines");
    let text = example("channel.yaml")
        .replace("Europe/Moscow", "Europe/Moskow")
        .replace("after: 24h", "after: 40d")
        .replace("volumeClaim: {size: 1Gi}", "ephemeral: {}");
    let file = folder.file("a.yaml", format!("{text}---\nkind: [\n---\nkind: ConfigMap\n"));
    let line = |part: &str| text.lines().position(|line| line.contains(part)).expect("the line") + 1;
    let expected = [
        (
            line("Europe/Moskow"),
            "spec.workingHours.timeZone: \"Europe/Moskow\" is not a time zone: write an IANA name like Europe/Moscow",
        ),
        (line("after: 40d"), "spec.autoClose.after: give a duration from 1m to 30d"),
        (
            line("ephemeral"),
            "warning: spec.relay.storage.ephemeral: is for trials only: undelivered messages die with the pod; use volumeClaim for \
             customers",
        ),
        (text.lines().count() + 3, "not valid YAML: did not find expected node content"),
    ];
    let mut lines: Vec<String> = expected.iter().map(|(line, message)| format!("{file}:{line}: {message}")).collect();
    lines.push("1 channel checked (1 other document skipped): 3 errors, 1 warning\n".to_owned());
    assert_eq!(out(&maxchannel(&["check", "-f", &file])), (1, lines.join("\n")));
}

#[test]
fn warnings_alone_end_in_exit_code_0_and_json_carries_the_same() {
    let folder = Folder::new("json");
    let text = example("minimal.yaml").replace("  receiver:\n    employee: {extension: \"101\"}\n", "");
    let file = folder.file("a.yaml", &text);
    let (code, json) = out(&maxchannel(&["check", "-f", &file, "-o", "json"]));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let spec = text.lines().position(|line| line == "spec:").expect("the line") + 2;
    assert_eq!(code, 0);
    assert_eq!(
        report,
        serde_json::json!({
            "channels": 1, "skipped": 0, "errors": 0, "warnings": 1,
            "findings": [{
                "file": file, "line": spec, "channel": "crm/hotline", "field": "spec.receiver", "severity": "warning",
                "message": "is missing, so customers are not answered (documented error 6): name an employee, a group or a bot",
            }],
        })
    );
}

#[test]
fn wrong_usage_and_unreadable_files_end_in_exit_code_2_with_a_sentence() {
    let folder = Folder::new("usage");
    let empty = folder.file("empty.yaml", "# nothing\n");
    for (arguments, part) in [
        (vec!["check"], "required"),
        (vec!["check", "--no-such-thing"], "--no-such-thing"),
        (vec!["check", "-f", "no/such/file.yaml"], "cannot read no/such/file.yaml"),
        (vec!["check", "-f", &empty], "no MaxChannel in"),
        (vec!["check", "--logo", "no/such/logo.png"], "cannot read no/such/logo.png"),
        (vec!["no-such-command"], "no-such-command"),
    ] {
        let output = maxchannel(&arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error.contains(part), "{arguments:?}: {error}");
    }
}

#[test]
fn a_logo_is_checked_by_its_bytes_whatever_its_name_is() {
    let folder = Folder::new("logo");
    let png = |side: u32| {
        [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".as_slice(), &side.to_be_bytes(), &side.to_be_bytes(), b"\x08\x06\0\0\0"]
            .concat()
    };
    let good = folder.file("good.txt", png(500));
    let small = folder.file("small.png", png(64));
    assert_eq!(out(&maxchannel(&["check", "--logo", &good])).0, 0);
    let (code, text) = out(&maxchannel(&["check", "--logo", &small]));
    assert_eq!(
        (code, text.lines().next()),
        (1, Some(format!("{small}: the picture is 64x64: resize it to 500x500").as_str()))
    );
}

#[test]
fn the_printed_crd_is_the_committed_one() {
    let committed =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/maxchannels.yaml")).expect("the CRD");
    assert_eq!(out(&maxchannel(&["crd"])), (0, committed));
}

#[test]
fn a_host_that_the_installation_does_not_allow_is_found_with_file_line_and_field() {
    let folder = Folder::new("policy");
    let policy = folder.file(
        "values.yaml",
        "replicaCount: 2\nallowedHosts: [acme.creatio.com, acme-is.creatio.com, \"*.acme.example\"]\n",
    );
    let manifest = |url: &str| {
        let text = example("minimal.yaml").replace("https://acme.creatio.com", url);
        folder.file("channel.yaml", text)
    };
    let checked = maxchannel(&["check", "--policy", &policy, "-f", &manifest("https://acme.creatio.com:8443/x")]);
    assert!(!out(&checked).1.contains("allowedHosts"), "{}", out(&checked).1);
    let (code, text) = out(&maxchannel(&["check", "--policy", &policy, "-f", &manifest("https://collector.example")]));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("channel.yaml:") && text.contains("spec.creatio.url: the host collector.example"), "{text}");

    let broken = folder.file("broken.yaml", "allowedHosts: yes\n");
    let refused = maxchannel(&["check", "--policy", &broken, "-f", &manifest("https://acme.creatio.com")]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("allowedHosts"));
}

#[test]
fn a_proxy_of_the_environment_is_never_asked() {
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    proxy.set_nonblocking(true).expect("a listener that does not wait");
    let address = format!("http://{}", proxy.local_addr().expect("an address"));
    let folder = Folder::new("proxy");
    let secrets = folder.file("secrets.yaml", example("secrets.yaml"));
    let channel =
        folder.file("channel.yaml", example("minimal.yaml").replace("https://acme.creatio.com", "http://127.0.0.1:9"));
    for arguments in
        [&["status", "--server", "http://127.0.0.1:9"][..], &["check", "--online", "-f", &channel, &secrets][..]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maxchannel"));
        command.args(arguments).env("MAXCHANNEL_MAX_URL", "http://127.0.0.1:9");
        command.env("MAXCHANNEL_MANGO_URL", "http://127.0.0.1:9");
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env(variable, &address);
        }
        let output = command.output().expect("the program starts");
        assert_ne!(output.status.code(), Some(0), "nobody listens there");
        assert!(proxy.accept().is_err(), "{arguments:?} called the environment's proxy");
    }
}
