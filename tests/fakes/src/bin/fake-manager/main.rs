//! `fake-manager KIND --listen ADDR --dir DIR`: a stand-in as a process of its own, for clients that
//! are not written in Rust. It writes what they need into DIR, says the rest as one line of JSON, and
//! ends when its standard input does.
#![expect(
    clippy::expect_used,
    reason = "a stand-in that cannot be set up ends its test"
)]

mod vault;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;
use tokio::io::AsyncReadExt;

/// What every kind is started with.
struct Start {
    listen: SocketAddr,
    dir: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((kind, start)) = parse(&arguments) else {
        eprintln!("usage: fake-manager vault --listen 127.0.0.1:0 --dir DIR");
        return ExitCode::from(64);
    };
    match kind {
        "vault" => {
            let (_server, ready) = vault::start(&start).await;
            until_the_end(&ready).await;
        }
        _ => {
            eprintln!("fake-manager: there is no {kind}");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<(&str, Start)> {
    let [kind, options @ ..] = arguments else {
        return None;
    };
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut dir = None;
    for pair in options.chunks(2) {
        match pair {
            [name, value] if name == "--listen" => listen = value.parse().ok()?,
            [name, value] if name == "--dir" => dir = Some(PathBuf::from(value)),
            _ => return None,
        }
    }
    Some((kind, Start { listen, dir: dir? }))
}

/// Says that it is ready, and waits for the end of standard input.
async fn until_the_end(ready: &Value) {
    let mut out = std::io::stdout();
    writeln!(out, "{ready}").expect("a standard output");
    out.flush().expect("a standard output");
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await.ok();
}
