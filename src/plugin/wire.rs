//! The messages of the plugin protocol, compiled from `proto/`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

/// The provider's service.
pub mod tfplugin6 {
    tonic::include_proto!("tfplugin6");
}

/// The service that ends the process.
pub mod controller {
    tonic::include_proto!("plugin");
}
