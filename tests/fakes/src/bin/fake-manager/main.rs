//! A stand-in as a program of its own, for clients in other languages and for trying things out:
//! `fake-manager KIND --listen 127.0.0.1:0 --dir DIR`. It writes `DIR/ca.pem`, prints one line of JSON
//! that says how it is reached, and ends when its standard input does.
#![expect(clippy::expect_used, reason = "a stand-in that cannot be set up ends")]

mod ibm;

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::runtime::Runtime;

/// What every kind is started with.
struct Options {
    listen: SocketAddr,
    dir: PathBuf,
}

fn main() {
    let mut arguments = env::args().skip(1);
    let kind = arguments.next().expect(USAGE);
    let (mut listen, mut dir) = (None, None);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().expect(USAGE);
        match flag.as_str() {
            "--listen" => listen = Some(value.parse().expect("an address")),
            "--dir" => dir = Some(value.into()),
            _ => panic!("{USAGE}"),
        }
    }
    let options = Options {
        listen: listen.expect(USAGE),
        dir: dir.expect(USAGE),
    };
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        match kind.as_str() {
            "ibm" => ibm::serve(options).await,
            _ => panic!("{USAGE}"),
        }
    });
}

const USAGE: &str = "fake-manager ibm --listen ADDRESS:PORT --dir DIR";
