//! `maxchannel demo --once` as a newcomer runs it: the built program, nothing else.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_scripted_conversation_happens_from_beginning_to_end() {
    plays_through("simulator");
}

#[test]
fn the_scripted_conversation_happens_whatever_the_way_in() {
    for intake in ["longPoll", "mangoDialogs"] {
        plays("simulator", &["--intake", intake]);
    }
}

#[test]
fn the_scripted_conversation_happens_over_the_package_inside_creatio() {
    if ["mcs", "mono"].iter().any(|name| Command::new(name).arg("--version").output().is_err()) {
        assert!(std::env::var_os("CI").is_none(), "mono and mcs are missing: scripts/mono.sh installs them");
        eprintln!(
            "NOT TESTED: the demo over the package, because mono and mcs are missing: scripts/mono.sh installs them"
        );
        return;
    }
    plays_through("package");
}

#[test]
fn what_the_demo_has_started_and_written_ends_with_it_even_where_it_is_killed() {
    let mono = ["mcs", "mono"].iter().all(|name| Command::new(name).arg("--version").output().is_ok());
    for creatio in if mono { &["simulator", "package"][..] } else { &["simulator"] } {
        // Short, since the path of a socket is.
        let temporary = std::env::temp_dir().join(format!("mxc-end-{}", std::process::id()));
        std::fs::create_dir_all(&temporary).unwrap();
        let mut demo = Command::new(env!("CARGO_BIN_EXE_maxchannel"))
            .args(["demo", "--lang", "en", "--listen", "127.0.0.1:0", "--creatio", creatio])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut addresses = Vec::new();
        let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Where the other programs listen is told before anything can be typed.
        while let Some(line) = lines.find(|line| ["  the runner", "  Creatio"].iter().any(|one| line.starts_with(one)))
        {
            let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
            addresses.push(address);
            if addresses.len() == 2 {
                break;
            }
        }
        assert_eq!(addresses.len(), 2, "the demo did not start");
        for address in &addresses {
            TcpStream::connect(address).unwrap();
        }
        let left = || std::fs::read_dir(&temporary).unwrap().count();
        assert_eq!(left(), 1, "{creatio}: the demo has one folder");
        demo.kill().unwrap();
        demo.wait().unwrap();
        let patience = Instant::now() + Duration::from_mins(1);
        for address in &addresses {
            while TcpStream::connect(address).is_ok() {
                assert!(Instant::now() < patience, "{creatio}: something still listens at {address}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        while left() > 0 {
            assert!(Instant::now() < patience, "{creatio}: the folder of the demo is left behind");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::remove_dir(&temporary).unwrap();
    }
}

fn plays_through(creatio: &str) {
    plays(creatio, &[]);
}

fn plays(creatio: &str, more: &[&str]) {
    // Short, since the path of a socket is.
    let name = more.last().unwrap_or(&creatio);
    let temporary = std::env::temp_dir().join(format!("mxc-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&temporary).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_maxchannel"))
        .args(["demo", "--once", "--lang", "ru", "--creatio", creatio])
        .args(more)
        // What the demo leaves behind can be seen there.
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{out}\n{errors}");
    let rows = out.lines().filter(|line| line.ends_with("  yes")).count();
    let verdict = format!("{rows} of {rows} seen as expected: all of it happened");
    assert!(rows >= 30 && out.contains(&verdict), "{out}");
    for part in ["SIGKILL", "once each, in order", "TokenInvalid", "Скопируйте токен", "Спасибо за обращение!"]
    {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert_eq!(
        std::fs::read_dir(&temporary).unwrap().count(),
        0,
        "something was left behind in {}",
        temporary.display()
    );
    std::fs::remove_dir_all(temporary).unwrap();
}
