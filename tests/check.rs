//! `maxchannel check` and `maxchannel crd` as a user or a CI sees them: what is printed, and the
//! exit code.

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
fn in_the_image_the_program_is_found_by_its_name() {
    let folder = Folder::new("image");
    let program = folder.file("maxchannel", b"not a real program");
    let relay = folder.file("maxchannel-relay", b"nor is this");
    let image = folder.0.join("image.tar");
    let written = Command::new("python3")
        .args(["scripts/docker_archive.py", "--binary", &program, "--beside", &relay])
        .args(["--tag", "localhost/x:dev", "--output"])
        .arg(&image)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("python3");
    assert!(written.success());
    let bytes = String::from_utf8_lossy(&fs::read(&image).expect("the image")).into_owned();
    let dockerfile =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).expect("the Dockerfile");
    assert!(bytes.contains(r#""Env": ["PATH=/"]"#) && dockerfile.contains("\nENV PATH=/\n"));
    // `maxchannel relay` becomes what lies beside it.
    assert!(bytes.contains("nor is this") && dockerfile.contains("/maxchannel /maxchannel-relay /\n"));
}

/// The exit code, stdout and stderr.
fn all(arguments: &[&str]) -> (i32, String, String) {
    let output = maxchannel(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let (code, text) = out(&output);
    (code, text, error)
}

#[test]
fn a_scalar_that_kubectl_reads_differently_is_told_with_line_and_field_and_told_once() {
    let folder = Folder::new("scalars");
    let good = example("minimal.yaml");
    for (from, to, field) in [
        ("accountNumber: \"400067890\"", "accountNumber: 0400012345", "spec.mango.accountNumber"),
        ("accountNumber: \"400067890\"", "accountNumber: 12_000", "spec.mango.accountNumber"),
        ("accountNumber: \"400067890\"", "accountNumber: 0b101", "spec.mango.accountNumber"),
        ("extension: \"101\"", "extension: 0101", "spec.receiver.employee.extension"),
        ("extension: \"101\"", "extension: \"101\", crmUser: off", "spec.receiver.employee.crmUser"),
        ("spec:\n", "spec:\n  suspend: yes\n", "spec.suspend"),
        ("spec:\n", "spec:\n  closeMessage: {text: no}\n", "spec.closeMessage.text"),
    ] {
        assert!(good.contains(from), "{from} is not in the example");
        let text = good.replacen(from, to, 1);
        let file = folder.file("a.yaml", &text);
        let line =
            text.lines().position(|line| line.contains(to.trim_start_matches("spec:\n").trim_end())).expect("the line")
                + 1;
        let (code, said, _) = all(&["check", "-f", &file]);
        assert_eq!(code, 1, "{to}: {said}");
        assert!(said.starts_with(&format!("{file}:{line}: {field}: is ")), "{to}: {said}");
        assert!(said.contains("put it in quotes"), "{to}: {said}");
        assert_eq!(said.lines().count(), 2, "{to}: {said}");
    }
}

#[test]
fn what_is_no_regular_file_is_told_beside_the_findings_of_the_others_in_both_forms() {
    let folder = Folder::new("fifo");
    let wrong = folder.file("a.yaml", example("minimal.yaml").replace("\"101\"", "101"));
    let pipe = folder.0.join("b.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let pipe = pipe.to_str().expect("UTF-8");
    let socket = folder.0.join("c.json");
    let _held = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let missing = "no/such/file.yaml";
    let path = folder.0.to_str().expect("UTF-8");
    let (code, said, complaint) = all(&["check", "-f", path, "-f", missing, "-f", "/dev/zero"]);
    assert_eq!(code, 2);
    for part in [
        format!("{wrong}:"),
        format!("{pipe}: cannot be read: it is not a regular file"),
        format!("{}: cannot be read: it is not a regular file", socket.display()),
        format!("{missing}: cannot be read: "),
        "/dev/zero: cannot be read: it is not a regular file".to_owned(),
    ] {
        assert!(said.contains(&part), "{part} is not in {said}");
    }
    assert!(complaint.contains(&format!("cannot read {missing}")), "{complaint}");
    let (code, said, _) = all(&["check", "-f", path, "-f", missing, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((code, &report["errors"]), (2, &serde_json::json!(4)), "{report:#}");
    let (code, said, _) = all(&["check", "-f", &wrong, "--logo", "/dev/zero"]);
    assert!(code == 2 && said.contains("/dev/zero: cannot be read"), "{said}");
}

#[test]
fn whoever_asks_for_json_gets_json_also_where_nothing_can_be_done() {
    let folder = Folder::new("json-errors");
    let empty = folder.file("empty.yaml", "# nothing\n");
    for arguments in [
        vec!["check", "-f", &empty, "-o", "json"],
        vec!["plan", "-f", "no/such", "-o", "json"],
        vec!["rules", "-f", &empty, "--at", "2026-11-24 17:50", "-o", "json"],
        vec!["status", "--server", "http://127.0.0.1:1", "-o", "json"],
    ] {
        let (code, said, complaint) = all(&arguments);
        let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}"));
        assert!(code == 2 && report["error"].is_string() && !complaint.is_empty(), "{arguments:?}: {report}");
    }
}

#[test]
fn nothing_of_a_file_or_its_name_steers_the_terminal() {
    let folder = Folder::new("escapes");
    let file = folder
        .file("a\u{1b}[2J.yaml", "apiVersion: maxchannel.dev/v1\nkind: \"\\e]0;x\\a\"\nmetadata: {\"\\e[31m\": 1}\n");
    let (_, said, complaint) = all(&["check", "-f", &file, "-f", "no\u{1b}[31m"]);
    assert!(said.contains("\\u{1b}[2J"), "{said:?}");
    for text in [said, complaint] {
        assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
    }
}

#[test]
fn help_is_at_most_100_columns_wide_and_the_shells_and_man_have_what_they_need() {
    let (_, help, _) = all(&["help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"check") && commands.contains(&"completions"), "{help}");
    for command in &commands {
        let (_, help, _) = all(&["help", command]);
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef maxchannel"), ("fish", "complete -c maxchannel")] {
        let (code, text, _) = all(&["completions", shell]);
        assert!(code == 0 && text.contains(part) && text.contains("dead-letters"), "{shell}");
    }
    assert!(all(&["man"]).1.contains(".TH maxchannel 1"));
    let folder = Folder::new("man");
    assert_eq!(all(&["man", "--out", folder.0.join("pages").to_str().expect("UTF-8")]).0, 0);
    assert!(folder.0.join("pages/maxchannel-check.1").exists());
}

#[test]
fn large_input_is_read_in_linear_time_and_says_little() {
    let folder = Folder::new("large");
    let item = |number: usize| {
        format!(
            "- apiVersion: maxchannel.dev/v1alpha1\n  kind: MaxChannel\n  metadata: {{name: c{number}, namespace: crm}}\n  spec:\n    \
             tokenSecretRef: {{name: bot-{number}}}\n    mango: {{accountNumber: \"1\", credentialsSecretRef: {{name: mango}}}}\n    \
             creatio: {{url: https://acme.creatio.com, credentialsSecretRef: {{name: creatio}}}}\n    \
             receiver: {{employee: {{extension: \"101\"}}}}\n    colour: 1\n"
        )
    };
    let list: String = (0..2_000).map(item).collect();
    let file = folder.file("list.yaml", format!("apiVersion: v1\nkind: List\nitems:\n{list}"));
    let (code, said, _) = all(&["check", "-f", &file]);
    assert_eq!(code, 1);
    // One for the account and one for the colour.
    assert_eq!(said.lines().count(), 1_999 + 2_000 + 1);
    let nested = folder.file("nested.yaml", "{a: ".repeat(25_000));
    let (code, said, _) = all(&["check", "-f", &nested]);
    assert!(code == 1 && said.lines().count() == 2, "{said}");
    let large = folder.file("large.yaml", format!("a: [{}]\n", "1,".repeat(5_000_000)));
    let (code, said, _) = all(&["check", "-f", &large]);
    assert!(code == 1 && said.contains("split it"), "{said}");
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

/// Whoever only looks must not leave an id behind, which the next `run` would take for its own.
#[test]
fn a_look_outside_is_that_of_the_data_folder_and_makes_no_installation_of_it() {
    let folder = Folder::new("look");
    let secrets = folder.file("secrets.yaml", example("secrets.yaml"));
    let channel =
        folder.file("channel.yaml", example("minimal.yaml").replace("https://acme.creatio.com", "http://127.0.0.1:9"));
    let data = folder.0.join("data");
    for command in [&["check", "--online"][..], &["plan"]] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_maxchannel"));
        program.args(command).args(["-f", &channel, &secrets, "--data-dir"]).arg(&data);
        program.env("MAXCHANNEL_MAX_URL", "http://127.0.0.1:9").env("MAXCHANNEL_MANGO_URL", "http://127.0.0.1:9");
        let (code, text) = out(&program.output().expect("the program starts"));
        assert_eq!(code, 1, "nobody listens there: {text}");
        assert!(!data.join("installation").exists(), "{command:?} has made an installation");
    }
}

#[test]
fn a_cluster_behind_a_proxy_of_the_kubeconfig_cannot_be_asked_and_the_error_says_why() {
    let folder = Folder::new("kubeconfig");
    let config = |proxy: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{}}}}],\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:9'{proxy}}}}}],\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]}}\n"
        )
    };
    for (proxy, is_told) in [(", proxy-url: 'http://127.0.0.1:10'", true), ("", false)] {
        let file = folder.file("config", config(proxy));
        let mut command = Command::new(env!("CARGO_BIN_EXE_maxchannel"));
        command.args(["status", "--cluster"]).env("KUBECONFIG", file);
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot be listed at http://127.0.0.1:9"), "{said}");
        assert_eq!(said.contains("the proxy-url of the kubeconfig"), is_told, "{said}");
    }
}

/// A folder `channels` with a manifest that is right and one that is not, in a folder of its own.
fn repository(name: &str) -> Folder {
    let folder = Folder::new(name);
    fs::create_dir_all(folder.0.join("channels")).expect("a folder");
    folder.file("channels/good.yaml", example("minimal.yaml"));
    folder.file("channels/wrong.yaml", example("channel.yaml").replace("Europe/Moscow", "Europe/Moskow"));
    folder.file("channels/other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n");
    folder
}

/// A script of this repository in a folder, with the program in the PATH.
fn script(folder: &Folder, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let programs = Path::new(env!("CARGO_BIN_EXE_maxchannel")).parent().expect("a folder").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .arg(root.join(program))
        .args(arguments)
        .env("PATH", path)
        .envs(variables.iter().copied())
        .current_dir(&folder.0)
        .output()
        .expect("bash");
    out(&output)
}

const MOSKOW: &str = "\"Europe/Moskow\" is not a time zone";

#[test]
fn findings_come_in_the_forms_that_ci_systems_read_with_the_same_exit_code() {
    let folder = repository("forms");
    let folder = folder.0.to_str().expect("UTF-8");
    let told = |form: &str| {
        let (code, text) = out(&maxchannel(&["check", "-f", folder, "-o", form]));
        assert_eq!(code, 1, "{form}: {text}");
        text
    };
    let github = told("github");
    assert!(github.starts_with("::error file=") && github.contains(MOSKOW), "{github}");
    let junit = told("junit");
    assert!(junit.contains("tests=\"2\" failures=\"1\""), "{junit}");
    let sarif: serde_json::Value = serde_json::from_str(&told("sarif")).expect("JSON");
    let [result] = sarif["runs"][0]["results"].as_array().expect("results").as_slice() else { panic!("{sarif}") };
    assert_eq!(result["ruleId"], "spec.workingHours.timeZone");
    assert!(result["locations"][0]["physicalLocation"]["region"]["startLine"].as_u64().is_some_and(|line| line > 1));
    for form in ["github", "junit", "sarif"] {
        assert_eq!(out(&maxchannel(&["check", "-f", "examples/minimal.yaml", "-o", form])).0, 0, "{form}");
        assert_eq!(out(&maxchannel(&["check", "-f", "no/such/file.yaml", "-o", form])).0, 2, "{form}");
    }
}

#[test]
fn the_github_action_notes_what_is_wrong_at_its_line_and_writes_a_report() {
    let action = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("action.yml")).expect("action.yml");
    let action: serde_json::Value = serde_yaml::from_str(&action).expect("YAML");
    let step = &action["runs"]["steps"][0];
    assert_eq!(step["run"], "\"$ACTION/scripts/check-in-ci.sh\"");
    let folder = repository("action");
    let program = env!("CARGO_BIN_EXE_maxchannel");
    let inputs = |paths| [("PATHS", paths), ("SARIF", "report.sarif"), ("PROGRAM", program)];
    for (name, _) in inputs("") {
        assert_eq!(step["env"][name], format!("${{{{ inputs.{} }}}}", name.to_lowercase()), "{name}");
    }
    let (code, told) =
        script(&folder, "scripts/check-in-ci.sh", &[], &inputs("channels/good.yaml\nchannels/wrong.yaml\n"));
    assert_eq!(code, 1, "{told}");
    assert!(told.starts_with("::error file=channels/wrong.yaml,line=") && told.contains(MOSKOW), "{told}");
    let report = fs::read_to_string(folder.0.join("report.sarif")).expect("the report");
    assert!(report.contains("channels/wrong.yaml"), "{report}");
    assert_eq!(script(&folder, "scripts/check-in-ci.sh", &[], &inputs("channels/good.yaml")).0, 0);
    assert_eq!(script(&folder, "scripts/check-in-ci.sh", &[], &inputs("")).0, 2);
    let (code, told) = script(&folder, "scripts/check-in-ci.sh", &[], &[("PATHS", "channels"), ("REF", "main")]);
    assert!(code == 2 && told.contains("the version is not known"), "{told}");
}

#[test]
fn the_github_action_takes_no_program_but_the_one_that_the_release_vouches_for() {
    let folder = repository("download");
    let release = folder.0.join("releases/v1.2.3");
    fs::create_dir_all(&release).expect("a folder");
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let archive = format!("maxchannel-1.2.3-linux-{architecture}.tar.gz");
    let pack = format!("tar -czf {archive} -C \"$(dirname \"$1\")\" maxchannel && sha256sum {archive} >SHA256SUMS");
    let program = env!("CARGO_BIN_EXE_maxchannel");
    let packed = Command::new("bash").args(["-c", &pack, "pack", program]).current_dir(&release).status();
    assert!(packed.expect("bash").success());
    let releases = format!("file://{}", folder.0.join("releases").display());
    let inputs = [("PATHS", "channels/good.yaml"), ("RELEASES", releases.as_str()), ("REF", "v1.2.3")];
    let (code, told) = script(&folder, "scripts/check-in-ci.sh", &[], &inputs);
    assert_eq!(code, 0, "{told}");
    fs::write(release.join("SHA256SUMS"), format!("{}  {archive}\n", "0".repeat(64))).expect("a file");
    let (code, told) = script(&folder, "scripts/check-in-ci.sh", &[], &inputs);
    assert!(code == 2 && told.contains("is not what SHA256SUMS says"), "{told}");
}

#[test]
fn the_pre_commit_hook_looks_at_channels_and_passes_over_everything_else() {
    let folder = repository("hook");
    let hooks = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml"));
    let hooks: serde_json::Value = serde_yaml::from_str(&hooks.expect("the hooks")).expect("YAML");
    let entry = hooks[0]["entry"].as_str().expect("an entry");
    for (files, code) in [
        (&["channels/good.yaml", "channels/other.yaml"][..], 0),
        (&["channels/other.yaml"], 0),
        (&["channels/other.yaml", "channels/wrong.yaml"], 1),
    ] {
        let (seen, told) = script(&folder, entry, files, &[]);
        assert_eq!(seen, code, "{files:?}: {told}");
    }
}

#[test]
fn the_gitlab_template_leaves_a_test_report_and_fails_by_what_is_wrong() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".gitlab/check.gitlab-ci.yml"));
    let text = text.expect("the template");
    let (_, jobs) = text.split_once("\n---\n").expect("a header");
    let jobs: serde_json::Value = serde_yaml::from_str(jobs).expect("YAML");
    let job = &jobs["maxchannel:check"];
    let lines = job["script"].as_array().expect("a script").iter().map(|line| line.as_str().expect("a line"));
    let folder = repository("gitlab");
    folder.file("job.sh", format!("set -eo pipefail\n{}\n", lines.collect::<Vec<_>>().join("\n")));
    let job_file = folder.0.join("job.sh").display().to_string();
    for (paths, expected) in [("channels", 1), ("channels/good.yaml", 0)] {
        let (code, told) = script(&folder, &job_file, &[], &[("MAXCHANNEL_PATHS", paths)]);
        assert_eq!(code, expected, "{told}");
        let report = fs::read_to_string(folder.0.join("maxchannel-check.xml")).expect("the report");
        assert_eq!(report.contains("<failure "), expected == 1, "{report}");
    }
    assert_eq!(job["artifacts"]["reports"]["junit"][0], "maxchannel-check.xml");
}

#[test]
fn the_schema_for_editors_is_one_json_document() {
    let (code, text) = out(&maxchannel(&["schema"]));
    let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &schema["properties"]["kind"]["const"]), (0, &serde_json::json!("MaxChannel")));
}

/// The blocks of YAML in the documents are what readers copy.
#[test]
fn every_channel_in_the_documents_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path()));
    let folder = Folder::new("documents");
    let mut seen = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).expect("a page");
        for block in text.split("```yaml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            if block.contains("kind: MaxChannel") {
                seen += 1;
                let (code, said) = out(&maxchannel(&["check", "-f", &folder.file("channel.yaml", block)]));
                assert_eq!(code, 0, "{}:\n{block}\n{said}", page.display());
            }
        }
    }
    assert!(seen >= 3, "only {seen} channels were found");
}
