//! Spans for a collector that speaks OTLP, the protocol of OpenTelemetry, over HTTP.
//!
//! The environment says where the collector is and how spans are sent, in the variables that the
//! [OpenTelemetry SDKs share](https://opentelemetry.io/docs/specs/otel/protocol/exporter/).

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The spans that ended and were not sent yet. They are sent when this goes.
pub(crate) struct Spans(SdkTracerProvider);

impl Spans {
    /// `None` if the environment names no collector.
    ///
    /// # Errors
    /// The environment cannot be understood; the error says which part of it.
    pub(super) fn of_environment() -> Option<Result<Self, String>> {
        let endpoints = [OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT];
        let is_named = |name| std::env::var_os(name).is_some_and(|address| !address.is_empty());
        if !endpoints.into_iter().any(is_named) {
            return None;
        }
        // Where several providers of cryptography are compiled in, the client of the exporter takes
        // the one of the process. It is set nowhere else, so setting it cannot fail.
        _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = match SpanExporter::builder().with_http().build() {
            Ok(exporter) => exporter,
            Err(error) => return Some(Err(error.to_string())),
        };
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("rejoin");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Some(Ok(Self(provider)))
    }

    /// The layer that notes spans, and the events in them.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.0.tracer("rejoin");
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(filter_fn(is_of_one_deed))
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            warn!(%error, "the last spans did not reach the collector");
        }
    }
}

/// Whether a span ends with what it tells of. The span of an adapter lasts as long as the process,
/// and would make one endless trace of all deliveries. The exporter's own events are not sent, as
/// sending them would make others.
fn is_of_one_deed(metadata: &Metadata<'_>) -> bool {
    let is_endless = metadata.is_span() && metadata.name() == "adapter";
    !is_endless && metadata.target().starts_with("rejoin")
}
