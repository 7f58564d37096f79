//! Generates the wire types from the protocol's public .proto files.

use std::path::PathBuf;

use prost::Message as _;
use prost_build::Config;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(
        [
            "livekit_rtc.proto",
            "livekit_models.proto",
            "livekit_metrics.proto",
            "livekit_room.proto",
            "livekit_agent_dispatch.proto",
            "livekit_webhook.proto",
        ],
        ["proto"],
    )?;
    let mut config = Config::new();
    config
        .bytes(["."])
        .enable_type_names()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(descriptors.clone())?;

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // For reflection: the server API's JSON has options that the client protocol's has not.
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut json = pbjson_build::Builder::new();
    for file in descriptors.file {
        json.register_file_descriptor(file);
    }
    json.extern_path(".google.protobuf", "::pbjson_types")
        .ignore_unknown_fields()
        .ignore_unknown_enum_variants()
        .out_dir(out)
        .build(&[".livekit"])?;
    Ok(())
}
