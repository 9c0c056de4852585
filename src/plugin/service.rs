//! The requests of the protocol as they arrive; a panic in one becomes a diagnostic.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::path::Path;
use super::provider::Provider;
use super::server::Server;
use super::wire::controller::{Empty, grpc_controller_server::GrpcController};
use super::wire::tfplugin6 as wire;

pub(super) struct Service<P: Provider>(pub(super) Arc<Server<P>>);

/// Runs one request to its end, even if the caller hangs up.
async fn answer<T, F>(calls: &TaskTracker, rpc: &'static str, type_name: &str, work: F) -> Result<T, Diagnostics>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Diagnostics>> + Send + 'static,
{
    let span = tracing::error_span!("request", tf_rpc = rpc, tf_resource_type = type_name);
    let timed = async move {
        let start = Instant::now();
        tracing::trace!("request received");
        let result = work.await;
        let duration_ms = start.elapsed().as_millis();
        tracing::trace!(tf_req_duration_ms = %duration_ms, "request served");
        result
    };
    match calls.spawn(timed.instrument(span)).await {
        Ok(result) => result,
        Err(lost) => {
            let reason = match lost.try_into_panic() {
                Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                    (Some(text), _) => (*text).to_owned(),
                    (_, Some(text)) => text.clone(),
                    _ => "no reason given".to_owned(),
                },
                Err(_) => "the request was dropped".to_owned(),
            };
            let detail = format!("This is a defect of the provider, please report it.\n\nCause: panic: {reason}");
            Err(Diagnostic::error(Path::root(), "The provider panicked", detail).into())
        }
    }
}

/// The service: each request goes to the server, a failure becomes the diagnostics of the answer.
macro_rules! methods {
    ($($method:ident $rpc:literal ($server:ident, $request:ident, $type_name:expr) $work:expr;)*) => {
        #[tonic::async_trait]
        impl<P: Provider> wire::provider_server::Provider for Service<P> {
            // Some answers hold nothing but diagnostics.
            $(#[allow(clippy::needless_update)]
            async fn $method(
                &self,
                request: Request<wire::$method::Request>,
            ) -> Result<Response<wire::$method::Response>, Status> {
                let ($server, $request) = (Arc::clone(&self.0), request.into_inner());
                let (type_name, calls): (String, _) = ($type_name, self.0.calls.clone());
                let answered = answer(&calls, $rpc, &type_name, async move { $work }).await;
                Ok(Response::new(answered.unwrap_or_else(|diagnostics| wire::$method::Response {
                    diagnostics: diagnostics.into(),
                    ..Default::default()
                })))
            })*

            async fn stop_provider(
                &self,
                _request: Request<wire::stop_provider::Request>,
            ) -> Result<Response<wire::stop_provider::Response>, Status> {
                self.0.stop();
                Ok(Response::new(wire::stop_provider::Response::default()))
            }
        }
    };
}

methods! {
    get_metadata "GetMetadata" (server, _request, String::new()) Ok(server.metadata());
    get_provider_schema "GetProviderSchema" (server, _request, String::new()) Ok(server.schemas());
    validate_provider_config "ValidateProviderConfig" (server, request, String::new())
        server.validate_provider(request.config).map(|found| wire::validate_provider_config::Response { diagnostics: found.into() });
    validate_resource_config "ValidateResourceConfig" (server, request, request.type_name.clone())
        server.validate(request).map(|found| wire::validate_resource_config::Response { diagnostics: found.into() });
    configure_provider "ConfigureProvider" (server, request, String::new())
        server.configure(request).map(|found| wire::configure_provider::Response { diagnostics: found.into() });
    upgrade_resource_state "UpgradeResourceState" (server, request, request.type_name.clone()) server.upgrade(request);
    plan_resource_change "PlanResourceChange" (server, request, request.type_name.clone()) server.plan(request);
    apply_resource_change "ApplyResourceChange" (server, request, request.type_name.clone()) server.apply(request).await;
    read_resource "ReadResource" (server, request, request.type_name.clone()) server.read(request).await;
    import_resource_state "ImportResourceState" (server, request, request.type_name.clone()) server.import(request).await;
}

/// Ends the process when the core asks for it.
pub(super) struct Controller(pub(super) CancellationToken);

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _request: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.0.cancel();
        Ok(Response::new(Empty {}))
    }
}
