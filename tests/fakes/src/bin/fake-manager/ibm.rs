//! IBM Cloud: IAM and Secrets Manager at one address.

use std::fs;

use edge_secrets_fakes::Server;
use edge_secrets_fakes::ibm::Ibm;
use serde_json::{Value, json};

use super::Start;

pub(crate) async fn start(start: &Start) -> (Server<Ibm>, Value) {
    let server = Server::start_at(Ibm::new(API_KEY), start.listen).await;
    let ca = start.dir.join("ca.pem");
    fs::write(&ca, server.pki().certificate()).expect("a writable directory");
    let ready = json!({ "url": server.url(), "api_key": API_KEY, "ca": ca });
    (server, ready)
}

const API_KEY: &str = "fake-api-key";
