//! `PUT /v1/status`: what is applied.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use edge_secrets_protocol::Code;
use edge_secrets_protocol::limits::{MAX_DEPLOYMENTS, MAX_STATUS_REQUEST};
use edge_secrets_protocol::status::StatusReport;

use crate::api::body::Json;
use crate::api::peer::NodePeer;
use crate::api::problem::ApiError;
use crate::clock;
use crate::hub::Hub;

/// Replaces the node's report and wakes those who wait for it.
pub(super) async fn call(
    State(hub): State<Arc<Hub>>,
    peer: NodePeer,
    Json(report): Json<StatusReport, MAX_STATUS_REQUEST>,
) -> Result<StatusCode, ApiError> {
    check(&report)?;
    hub.catalog
        .put_report(&peer.org, &peer.node, &report, clock::now())
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body's bound keeps the whole in size; these keep what is listed and shown in bounds.
fn check(report: &StatusReport) -> Result<(), ApiError> {
    if report.deployments.len() > MAX_DEPLOYMENTS {
        return Err(ApiError::new(
            Code::TooLarge,
            format!("The report names more than {MAX_DEPLOYMENTS} deployments."),
        ));
    }
    let details = report.deployments.iter().filter_map(|d| d.error.as_ref());
    if details
        .into_iter()
        .any(|error| error.detail.len() > MAX_DETAIL)
    {
        return Err(ApiError::new(
            Code::TooLarge,
            format!("The detail of an error is longer than {MAX_DETAIL} bytes."),
        ));
    }
    Ok(())
}

const MAX_DETAIL: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use edge_secrets_protocol::status::{DeploymentError, DeploymentState, DeploymentStatus};

    use super::*;

    fn status(detail: usize) -> DeploymentStatus {
        DeploymentStatus {
            id: "d1".parse().unwrap(),
            service: "o/s".parse().unwrap(),
            state: DeploymentState::Failed,
            applied: [].into(),
            error: Some(DeploymentError {
                code: Code::Failed,
                detail: "x".repeat(detail),
            }),
        }
    }

    #[test]
    fn a_report_is_bounded_in_number_and_in_text() {
        let report = |deployments| StatusReport {
            deployments,
            ..StatusReport::default()
        };
        assert_eq!(check(&report(vec![status(100); MAX_DEPLOYMENTS])), Ok(()));
        for large in [
            vec![status(1); MAX_DEPLOYMENTS + 1],
            vec![status(MAX_DETAIL + 1)],
        ] {
            assert_eq!(check(&report(large)).unwrap_err().code(), Code::TooLarge);
        }
    }
}
