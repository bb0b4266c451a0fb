use crate::support::{Files, json};

/// Everything of an evaluation that spikes decide.
fn outcome(files: &Files, encoder: &str, batch: &str, threads: &str) -> (String, Vec<u8>) {
    let logits = files.at("logits.npz");
    let report = json(&[
        "evaluate",
        "--checkpoint",
        &files.at("snn.pth"),
        "--data",
        &files.at("data.npz"),
        "--split",
        "train",
        "--timesteps",
        "3",
        "--encoder",
        encoder,
        "--batch-size",
        batch,
        "--threads",
        threads,
        "--logits",
        &logits,
    ]);
    (report["layers"].to_string(), std::fs::read(&logits).unwrap())
}

#[test]
fn batch_size_and_threads_change_no_spike() {
    let files = Files::with_snn();
    for encoder in ["direct", "poisson"] {
        let (layers, logits) = outcome(&files, encoder, "32", "2");
        assert!(!layers.contains(
            "\"spikes_per_sample\":0.0,\"spikes_per_neuron\":0.0,\"synaptic_operations_per_sample\":0.0"
        ));
        for (batch, threads) in [("1", "2"), ("7", "2"), ("32", "1"), ("7", "1")] {
            let other = outcome(&files, encoder, batch, threads);
            assert_eq!(other.0, layers, "{encoder}, batches of {batch}, {threads} threads");
            assert_eq!(other.1, logits, "{encoder}, batches of {batch}, {threads} threads: logits");
        }
    }
}
