//! The report of whole, partial and broken runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use escape_report::{ReportError, build, tables};

#[allow(clippy::unwrap_used, reason = "a generator for tests may panic")]
mod synthetic;

/// Figures of the synthetic run.
const FIGURES: [&str; 27] = [
    "accuracy_timesteps",
    "confusion",
    "fig1_recording",
    "fig2_input_spikes",
    "fig3_finetune",
    "fig3_training",
    "fig4_raster_conv1",
    "fig4_raster_conv1_stdb-T28",
    "fig4_raster_conv2",
    "fig4_raster_conv2_stdb-T28",
    "fig4_raster_conv3",
    "fig4_raster_conv3_stdb-T28",
    "fig4_raster_linear1",
    "fig4_raster_linear1_stdb-T28",
    "fig4_raster_linear2",
    "fig4_raster_linear2_stdb-T28",
    "fig5_channels",
    "fig5_channels_stdb-T28",
    "fig5_histogram",
    "fig5_histogram_stdb-T28",
    "fig6_computations",
    "fig7_energy",
    "fig8_energy_steps",
    "front",
    "index",
    "spikes_by_step",
    "style",
];

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn a_whole_run_has_every_figure_and_table() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write(folder.path(), 0.1);
    let summary = build(folder.path()).unwrap();
    assert_eq!(summary.left_out, []);

    let tables = folder.path().join("tables");
    let of_tables = |p: &&PathBuf| p.parent() == Some(&tables);
    // Seven tables, each as CSV, Markdown and LaTeX.
    assert_eq!(summary.written.iter().filter(of_tables).count(), 21);
    let others = summary.written.iter().filter(|p| !of_tables(p));
    let stems: BTreeSet<String> =
        others.map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(stems.iter().map(String::as_str).collect::<Vec<_>>(), FIGURES);
    let page = read(&summary.page);
    well_formed(&page);
    for stem in FIGURES.iter().filter(|s| !["index", "style"].contains(*s)) {
        assert!(page.contains(&format!("<figure id=\"{stem}\">")), "{stem} is not on the page");
        let file = |extension: &str| folder.path().join("figures").join(format!("{stem}.{extension}"));
        assert!(read(&file("csv")).lines().count() > 1, "{stem}.csv has no rows");
        well_formed(&read(&file("svg")));
        assert!(read(&file("svg")).contains("width=\"85.00mm\""), "{stem}.svg has its size on paper");
        assert!(fs::read(file("pdf")).unwrap().starts_with(b"%PDF-1.5"), "{stem}.pdf");
        let image = image::load_from_memory(&fs::read(file("png")).unwrap()).unwrap().to_rgb8();
        assert!(
            image.width() == 1004 && image.height() > 300,
            "{stem}: {} x {}",
            image.width(),
            image.height()
        );
        let colours: BTreeSet<_> = image.pixels().map(|p| p.0).collect();
        assert!(colours.len() > 16, "{stem}.png is blank");
    }
    for id in ["table1", "table2", "table3", "activity", "energy-table", "claims"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id} is not on the page");
    }
    let mut ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "an anchor is there twice: {ids:?}");
    assert!(page.contains("synthetic &lt;example&gt; &amp; test"), "the name is escaped");
    assert!(page.contains("config.hash"), "the manifest is shown");
    let tidy = !page.contains("<script") && !page.contains("src=\"http") && !page.contains("url(");
    assert!(tidy, "the page stands alone");
    let leftovers = fs::read_dir(folder.path().join("figures")).unwrap();
    assert!(leftovers.map(|f| f.unwrap().path()).all(|p| p.extension().unwrap() != "tmp"));
}

#[test]
fn building_twice_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write(folder.path(), 0.02);
    let first = build(folder.path()).unwrap();
    let bytes: Vec<_> = first.written.iter().map(|p| fs::read(p).unwrap()).collect();
    let second = build(folder.path()).unwrap();
    assert_eq!(first, second);
    for (path, before) in second.written.iter().zip(bytes) {
        assert!(fs::read(path).unwrap() == before, "{} differs", path.display());
    }
}

#[test]
fn evaluations_alone_make_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tempfile::tempdir().unwrap();
    synthetic::write(whole.path(), 0.01);
    fs::copy(whole.path().join("evaluations.csv"), folder.path().join("evaluations.csv")).unwrap();
    let summary = build(folder.path()).unwrap();
    let page = read(&summary.page);
    well_formed(&page);
    // A figure's four files, the style, the page, and three tables in three forms.
    assert_eq!(summary.written.len(), 15);
    assert!(page.contains("id=\"table1\"") && page.contains("id=\"accuracy_timesteps\""));
    let missing: Vec<String> = summary.left_out.iter().map(ToString::to_string).collect();
    assert!(missing.contains(&"Figure 1 needs recording.csv".to_owned()), "{missing:?}");
    assert!(missing.contains(&"Figure 4 needs raster.csv and activity.csv".to_owned()), "{missing:?}");
    for line in missing {
        assert!(page.contains(&line), "the page does not say: {line}");
    }
}

#[test]
fn an_empty_run_still_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let summary = build(folder.path()).unwrap();
    assert_eq!(summary.written, std::slice::from_ref(&summary.page));
    let page = read(&summary.page);
    well_formed(&page);
    assert!(page.contains("Figure 8 needs energy_steps.csv"));
    assert_eq!(tables(folder.path()).unwrap(), escape_report::Tables::default());
}

#[test]
fn tables_with_a_header_only_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let whole = tempfile::tempdir().unwrap();
    synthetic::write(whole.path(), 0.01);
    for file in fs::read_dir(whole.path()).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().unwrap() == "csv" {
            let text = read(&file);
            let header = text.lines().next().unwrap();
            fs::write(folder.path().join(file.file_name().unwrap()), format!("{header}\n")).unwrap();
        }
    }
    let summary = build(folder.path()).unwrap();
    assert_eq!(summary.written, std::slice::from_ref(&summary.page));
    well_formed(&read(&summary.page));
}

#[test]
fn any_single_file_may_be_missing_or_alone() {
    let whole = tempfile::tempdir().unwrap();
    synthetic::write(whole.path(), 0.005);
    let files: Vec<_> = fs::read_dir(whole.path()).unwrap().map(|f| f.unwrap().path()).collect();
    for file in &files {
        // Most of what depends on several files hangs on these.
        let name = file.file_stem().unwrap().to_str().unwrap();
        let central = ["activity", "evaluations", "energy"].contains(&name);
        for alone in [true, false].into_iter().filter(|alone| *alone || central) {
            let folder = tempfile::tempdir().unwrap();
            for other in files.iter().filter(|o| (*o == file) == alone) {
                fs::copy(other, folder.path().join(other.file_name().unwrap())).unwrap();
            }
            let summary = build(folder.path()).unwrap_or_else(|e| panic!("{} {alone}: {e}", file.display()));
            well_formed(&read(&summary.page));
            assert!(!summary.left_out.is_empty());
        }
    }
}

#[test]
fn malformed_input_is_refused_with_its_place() {
    let broken = |file: &str, text: &str| {
        let folder = tempfile::tempdir().unwrap();
        synthetic::write(folder.path(), 0.001);
        fs::write(folder.path().join(file), text).unwrap();
        let error = build(folder.path()).unwrap_err();
        assert!(!folder.path().join("report").exists(), "nothing is written");
        error.to_string()
    };
    let error = broken("confusion.csv", "network,actual,predicted,count\na,0,0,12\na,0,1,many\n");
    assert!(error.contains("confusion.csv, line 3, column `count`: expected a whole number"), "{error}");
    assert!(error.contains("got `many`"), "{error}");
    let error = broken("steps.csv", "network,layer,step,spikes_per_sample\n");
    assert!(error.contains("expected the column `synaptic_operations_per_sample`"), "{error}");
    let error = broken("manifest.json", "[1, 2]");
    assert!(error.contains("manifest.json: expected a JSON object, got an array"), "{error}");
    let error =
        broken("raster.csv", "network,layer,step,neuron\nstdb-T28,linear2,0,0\nstdb-T28,linear2,0,3\n");
    assert!(error.contains("raster.csv, line 3: expected a neuron below 3"), "{error}");
    let error = broken("raster.csv", "network,layer,step,neuron\nstdb-T28,linear2,4000000000,0\n");
    assert!(error.contains("line 2, column `step`"), "{error}");
}

/// Name, kind, T, confusion of 200 recordings, spikes and picojoules of a network.
type Small = (&'static str, &'static str, u32, [[u64; 2]; 2], f64, f64);

/// A run of such networks.
#[allow(clippy::unwrap_used, reason = "a generator for tests may panic")]
fn small_run(folder: &Path, networks: &[Small]) {
    let mut tables = [
        ("evaluations.csv", "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch".to_owned()),
        ("confusion.csv", "network,actual,predicted,count".to_owned()),
        (
            "activity.csv",
            "network,preset,timesteps,samples,layer,kind,neurons,weights,macs,analog_input,leak,spikes_per_sample,\
             synaptic_operations_per_sample"
                .to_owned(),
        ),
        ("energy.csv", "model,network,layer,component,picojoules\nfp32,ann,conv1,accumulate,1000".to_owned()),
    ];
    for (name, kind, t, counts, spikes, picojoules) in networks {
        let accuracy = (counts[0][0] + counts[1][1]) as f64 / 200.0;
        let (rules, steps) =
            if *kind == "ann" { (",", String::new()) } else { ("default,direct", t.to_string()) };
        tables[0].1 += &format!("\n{name},{kind},{rules},{steps},200,{accuracy},0.5,");
        for (actual, row) in counts.iter().enumerate() {
            for (predicted, count) in row.iter().enumerate() {
                tables[1].1 += &format!("\n{name},{actual},{predicted},{count}");
            }
        }
        if *kind != "ann" {
            tables[2].1 += &format!("\n{name},default,{t},200,conv1,conv,64,1,1,false,1,{spikes},0");
            tables[3].1 += &format!("\nfp32,{name},conv1,accumulate,{picojoules}");
        }
    }
    for (file, text) in tables {
        fs::write(folder.join(file), text + "\n").unwrap();
    }
}

/// What the page says first, without its markup.
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
fn headline(folder: &Path) -> String {
    let page = read(&build(folder).unwrap().page);
    let lead = page.split("<p class=\"lead\">").nth(1).unwrap().split("</p>").next().unwrap();
    lead.replace("<b>", "").replace("</b>", "")
}

#[test]
fn the_headline_is_the_most_accurate_network() {
    let folder = tempfile::tempdir().unwrap();
    let good = [[90, 30], [20, 60]];
    small_run(
        folder.path(),
        &[
            ("ann", "ann", 0, [[95, 25], [20, 60]], 0.0, 0.0),
            ("costly", "converted", 4, good, 9.0, 500.0),
            ("plain", "converted", 4, good, 9.0, 250.0),
            ("tuned", "finetuned", 4, [[85, 35], [20, 60]], 9.0, 10.0),
        ],
    );
    let text = headline(folder.path());
    // By hand: sqrt(0.775 * 0.225 / 200) = 0.02953, sqrt(0.75 * 0.25 / 200) = 0.03062.
    assert!(
        text.starts_with("Of 200 test recordings, the ANN classifies 77.5 \u{b1} 3.0% correctly"),
        "{text}"
    );
    assert!(text.contains("plain (converted only, T = 4) 75.0 \u{b1} 3.1%, 2.5 points fewer"), "{text}");
    assert!(
        text.contains("most frequent class throughout would be right for 60.0%, guessing for 50.0%"),
        "{text}"
    );
    assert!(text.contains("4.00 times less"), "{text}");
    let table = tables(folder.path()).unwrap().table1.unwrap();
    let row = table.rows.iter().find(|row| row[0] == "plain").unwrap();
    let cell = |head: &str| row[table.columns.iter().position(|c| c.head == head).unwrap()].as_str();
    // Recalls 90/120 and 60/80; F1 180/(120+110) and 120/(80+90).
    assert_eq!(
        [cell("standard error"), cell("balanced accuracy"), cell("macro F1")],
        ["0.031", "0.750", "0.744"]
    );
}

#[test]
fn nothing_is_saved_by_networks_that_decide_nothing() {
    let ann = ("ann", "ann", 0, [[95, 25], [20, 60]], 0.0, 0.0);
    let silent = ("silent", "converted", 4, [[100, 20], [0, 80]], 0.0, 0.05);
    let guessing = ("guessing", "finetuned", 4, [[120, 0], [80, 0]], 5.0, 0.05);
    let sound = ("sound", "converted", 4, [[80, 40], [25, 55]], 9.0, 250.0);
    let all_of = |networks: &[Small]| {
        let folder = tempfile::tempdir().unwrap();
        small_run(folder.path(), networks);
        (headline(folder.path()), read(&folder.path().join("report/index.html")))
    };
    let (text, page) = all_of(&[ann, silent, guessing, sound]);
    assert!(text.contains("sound (converted only, T = 4)") && text.contains("4.00 times less"), "{text}");
    assert!(page.contains("converted only (default, direct); silent"), "Table 1 marks it");
    assert!(page.contains("fine-tuned (default, direct); guesses"), "Table 1 marks it");
    assert!(!page.contains("20000"), "a saving of 1000 / 0.05");
    for (only, said) in [(silent, "fires no spike"), (guessing, "no better than that")] {
        let (text, page) = all_of(&[ann, only]);
        assert!(text.contains(said) && !text.contains("times less"), "{text}");
        assert!(!page.contains("20000"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    small_run(folder.path(), &[("ann", "ann", 0, [[120, 0], [80, 0]], 0.0, 0.0), sound]);
    assert!(headline(folder.path()).contains("The ANN is no better than that"));
}

/// By hand: which quantised ANN is a rival, and what follows.
#[test]
fn a_claim_holds_against_rivals_that_were_measured_and_are_no_less_accurate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file);
    let good = [[90, 30], [20, 60]];
    small_run(folder.path(), &[("ann", "ann", 0, good, 0.0, 0.0), ("snn", "converted", 4, good, 9.0, 100.0)]);
    let verdict = || {
        let claims = escape_report::claims(folder.path()).unwrap();
        assert_eq!(claims.len(), 1);
        let claim = &claims[0];
        (claim.verdict.words(), claim.full, claim.quantised.map(|q| (q.bits, q.saving)))
    };
    // 1000 pJ against 100, but nobody has run a quantised ANN.
    assert_eq!(verdict(), ("cannot be told", Some(10.0), None));
    // One of 8 bits, as accurate (0.75), of 120 pJ and 60 pJ where it skips zeros; one of 3 bits, cheap and lost.
    let head =
        "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch,balanced_accuracy,macro_f1,bits\n";
    let evaluations = |eight: f64| {
        let rows = format!(
            "ann,ann,,,,200,0.75,0.5,,,,\nsnn,converted,default,direct,4,200,0.75,0.5,,,,\n\
             ann-8bit,quantised,,,,200,{eight},0.5,,,,8\nann-3bit,quantised,,,,200,0.5,0.5,,,,3\n"
        );
        fs::write(path("evaluations.csv"), head.to_owned() + &rows).unwrap();
    };
    let energies = |eight: f64, skipping: f64| {
        let part = |network: &str, pj: f64| format!("fp32,{network},conv1,accumulate,{pj}\n");
        let rows = part("ann", 1000.0)
            + &part("snn", 100.0)
            + &part("ann-8bit", eight)
            + &part("ann-8bit-skip", skipping)
            + &part("ann-3bit", 10.0)
            + &part("ann-3bit-skip", 5.0);
        fs::write(path("energy.csv"), "model,network,layer,component,picojoules\n".to_owned() + &rows)
            .unwrap();
    };
    evaluations(0.75);
    energies(120.0, 60.0);
    assert_eq!(verdict(), ("does not", Some(10.0), Some((8, 1.2))));
    energies(120.0, 110.0);
    assert_eq!(verdict(), ("holds", Some(10.0), Some((8, 1.2))));
    // In a study the rivals are those of one of its ANNs, and say nothing of a network that was made from another.
    let outcomes = |ann: &str| {
        let head = "network,kind,ann,preset,encoder,timesteps,seed,samples,accuracy,loss,epoch,before,macro_f1,shown,judged_on\n";
        let rows = format!("snn,converted,{ann},default,direct,4,,200,0.75,0.5,,,,true,\n");
        fs::write(path("outcomes.csv"), head.to_owned() + &rows).unwrap();
    };
    outcomes("ann");
    assert_eq!(verdict(), ("holds", Some(10.0), Some((8, 1.2))));
    outcomes("original");
    assert_eq!(escape_report::claims(folder.path()).unwrap(), []);
    fs::remove_file(path("outcomes.csv")).unwrap();
    // A point lower, of 200 independent recordings: chance.
    evaluations(0.74);
    energies(120.0, 60.0);
    assert_eq!(verdict(), ("cannot be told", Some(10.0), Some((8, 1.2))));
    // Of the same recordings, of which it has 20 wrong that the other has right and none the other way round: none.
    let mut rows = "network,timesteps,recording,actual,predicted\n".to_owned();
    for recording in 0..200 {
        rows += &format!("snn,4,{recording},0,{}\n", u8::from(recording >= 150));
        rows += &format!("ann-8bit,,{recording},0,{}\n", u8::from(recording >= 130));
    }
    fs::write(path("predictions.csv"), rows).unwrap();
    assert_eq!(verdict(), ("holds", Some(10.0), None));
}

#[test]
fn tables_that_there_are_no_more_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let good = [[90, 30], [20, 60]];
    small_run(folder.path(), &[("ann", "ann", 0, good, 0.0, 0.0), ("snn", "converted", 4, good, 9.0, 100.0)]);
    let files = || -> BTreeSet<String> {
        let found = fs::read_dir(folder.path().join("tables")).unwrap();
        found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    };
    build(folder.path()).unwrap();
    let before = files();
    // What is somebody else's, and what is not there in every format.
    fs::write(folder.path().join("tables/claims-notes.md"), "mine").unwrap();
    fs::write(folder.path().join("tables/table3.md"), "mine").unwrap();
    fs::remove_file(folder.path().join("energy.csv")).unwrap();
    build(folder.path()).unwrap();
    let gone: Vec<String> = before.difference(&files()).cloned().collect();
    let of = |id: &str| ["csv", "md", "tex"].map(|e| format!("{id}.{e}"));
    assert_eq!(gone, [of("claims"), of("energy-table")].concat());
    assert!(files().contains("claims-notes.md") && files().contains("table3.md"));
}

/// By hand: what several seeds found, each by the ANNs of its own.
#[test]
fn claims_and_energies_of_a_study_are_those_of_all_its_seeds() {
    let study = tempfile::tempdir().unwrap();
    let outcome_head = "network,kind,ann,preset,encoder,timesteps,seed,samples,accuracy,loss,epoch,before,macro_f1,shown,judged_on\n";
    let good = [[90, 30], [20, 60]];
    let head =
        "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch,balanced_accuracy,macro_f1,bits";
    // Of a seed: the picojoules of a network that it reaches, and of a quantised ANN that is as accurate.
    let write = |folder: &Path, own: f64, accuracy: f64, quantised: f64| {
        fs::create_dir_all(folder).unwrap();
        let given = ("given", "converted", 4, good, 9.0, 500.0);
        small_run(
            folder,
            &[("ann", "ann", 0, good, 0.0, 0.0), ("snn", "converted", 4, good, 9.0, own), given],
        );
        let evaluations = format!(
            "{head}\nann,ann,,,,200,0.75,0.5,,,,\nsnn,converted,default,direct,4,200,{accuracy},0.5,,,,\n\
             given,converted,default,direct,4,200,0.75,0.5,,,,\nann-8bit,quantised,,,,200,0.75,0.5,,,,8\n"
        );
        fs::write(folder.join("evaluations.csv"), evaluations).unwrap();
        let energies = read(&folder.join("energy.csv"));
        let rivals = format!(
            "fp32,ann-8bit,conv1,accumulate,{quantised}\nfp32,ann-8bit-skip,conv1,accumulate,{quantised}\n"
        );
        fs::write(folder.join("energy.csv"), energies + &rivals).unwrap();
        fs::write(folder.join("outcomes.csv"), outcome_head).unwrap();
    };
    write(study.path(), 100.0, 0.75, 120.0);
    let row = |network: &str, seed: &str, accuracy: f64| {
        format!("{network},converted,ann,default,direct,4,{seed},200,{accuracy},0.5,,,,true,\n")
    };
    let outcomes = |seeds: &[(&str, f64)]| {
        let rows: String = seeds.iter().map(|(seed, accuracy)| row("snn", seed, *accuracy)).collect();
        let anns: String =
            seeds.iter().map(|(seed, _)| format!("ann,ann,ann,,,,{seed},200,0.75,0.5,,,,true,\n")).collect();
        outcome_head.to_owned() + &anns + &rows + &row("given", "", 0.75)
    };
    fs::write(study.path().join("outcomes.csv"), outcomes(&[("1", 0.75)])).unwrap();
    let rows = |table: Option<escape_report::Table>| table.unwrap().rows;
    let found = tables(study.path()).unwrap();
    let alone = rows(found.claims);
    assert_eq!(alone[0][0], "snn (T = 4, 0.750)");
    assert_eq!((alone[0][4].as_str(), alone[0][2].as_str()), ("10.0x", "holds"));
    assert!(found.energy.unwrap().columns.iter().all(|column| column.head != "seeds"));

    // The second seed's network needs as much again as its own ANN of 8 bits, the tenth's a little less.
    write(&study.path().join("seeds/2"), 250.0, 0.73, 125.0);
    write(&study.path().join("seeds/10"), 100.0, 0.77, 110.0);
    fs::write(study.path().join("outcomes.csv"), outcomes(&[("1", 0.75), ("2", 0.73), ("10", 0.77)]))
        .unwrap();
    let found = tables(study.path()).unwrap();
    let claims = rows(found.claims);
    assert_eq!(claims.len(), 2);
    // Savings 10, 4 and 10: 8 ± sqrt(12); over the quantised ANN 1.2, 0.5 and 1.1.
    assert_eq!(
        claims[0],
        [
            "snn (T = 4, 0.750 ± 0.020, n = 3)",
            "fp32 arithmetic",
            "holds (2), does not (1)",
            "-",
            "8.00x ± 3.46",
            "-",
            "0.93x ± 0.38 (8 bits)",
            "0.93x ± 0.38 (8 bits)",
        ]
    );
    // Nothing of what no seed reaches counts three times.
    assert_eq!((claims[1][0].as_str(), claims[1][4].as_str()), ("given (T = 4, 0.750)", "2.00x"));
    let energy = found.energy.unwrap();
    let heads: Vec<&str> = energy.columns.iter().map(|column| column.head.as_str()).collect();
    assert_eq!(heads[..4], ["counting", "network", "seeds", "recordings"]);
    let of = |network: &str| energy.rows.iter().find(|row| row[1] == network).unwrap()[2..].to_vec();
    assert_eq!(of("snn"), ["3", "200", "0.750 ± 0.020", "150 pJ", "0.15 ± 0.09", "8.00x ± 3.46"]);
    assert_eq!(of("ANN, 8 bits")[..4], ["3", "200", "0.750 ± 0.000", "118 pJ"]);
    assert_eq!(of("given")[..2], ["1", "200"]);
    let page = read(&build(study.path()).unwrap().page);
    assert!(page.contains(
        "mean ± standard deviation of a single seed. Each is compared with the ANNs of its own seed"
    ));
}

/// A study's rows of one network and epoch are as many as its seeds.
#[test]
fn trainings_of_several_seeds_have_a_band() {
    let folder = tempfile::tempdir().unwrap();
    let head = "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds,judged_on,seed\n";
    let mut rows = String::new();
    for (seed, better) in [(1, 0.0), (2, 0.1), (3, 0.05)] {
        for epoch in 1..=seed + 2 {
            rows += &format!("modified,{epoch},0.5,0.98,0.7,{},1,held-out,{seed}\n", 0.6 + better);
        }
    }
    fs::write(folder.path().join("training.csv"), head.to_owned() + &rows).unwrap();
    build(folder.path()).unwrap();
    let drawn = read(&folder.path().join("figures/fig3_training.csv"));
    let judged: Vec<Vec<&str>> = drawn
        .lines()
        .map(|row| row.split(',').collect())
        .filter(|row: &Vec<&str>| row[3..5] == ["accuracy", "held-out"])
        .collect();
    // The first seed ends after three epochs.
    assert_eq!(judged.iter().map(|row| row[2]).collect::<Vec<_>>(), ["1", "2", "3"]);
    for row in judged {
        let [value, low, high] = [5, 6, 7].map(|i| row[i].parse::<f64>().unwrap());
        assert!(
            (value - 0.65).abs() < 1e-9 && (low - 0.6).abs() < 1e-9 && (high - 0.7).abs() < 1e-9,
            "{row:?}"
        );
    }
    // No tick stands where no accuracy can.
    let svg = read(&folder.path().join("figures/fig3_training.svg"));
    assert!(svg.contains("\n1.0\n") && !svg.contains("\n1.2\n"), "{svg}");
}

/// One silent layer is enough: nothing of a recording passes it.
#[test]
fn a_silent_layer_before_the_readout_silences_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let ann = ("ann", "ann", 0, [[95, 25], [20, 60]], 0.0, 0.0);
    small_run(folder.path(), &[ann, ("sound", "converted", 4, [[90, 30], [20, 60]], 9.0, 250.0)]);
    let path = folder.path().join("activity.csv");
    let add = |layer: &str| {
        let row = format!("sound,default,4,200,{layer},conv,64,1,1,false,1,0,0\n");
        fs::write(&path, read(&path) + &row).unwrap();
        headline(folder.path())
    };
    // The readout of the default preset never fires.
    assert!(add("linear2").contains("4.00 times less"));
    let text = add("conv2");
    assert!(text.contains("has a layer that fires no spike") && !text.contains("times less"), "{text}");
}

/// A single epoch makes no curve, and Poisson spikes that no network sees no figure.
#[test]
fn figures_that_would_mislead_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let good = [[90, 30], [20, 60]];
    small_run(
        folder.path(),
        &[("ann", "ann", 0, good, 0.0, 0.0), ("tuned", "finetuned", 4, good, 9.0, 10.0)],
    );
    let header = "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds";
    let epochs = format!("{header}\ntuned,0,,,0.6,0.7,3\ntuned,1,0.5,0.8,0.6,0.7,3\n");
    fs::write(folder.path().join("finetune.csv"), epochs).unwrap();
    fs::write(folder.path().join("input_spikes.csv"), "step,contact,sample,spike\n0,0,0,1\n0,1,1,-1\n")
        .unwrap();
    let left_out: Vec<String> =
        build(folder.path()).unwrap().left_out.iter().map(ToString::to_string).collect();
    let said = |text: &str| left_out.iter().any(|line| line.contains(text));
    assert!(said("a single epoch") && said("no Poisson spikes to show"), "{left_out:?}");
    assert!(!folder.path().join("figures/fig3_finetune.svg").exists());
    assert!(!folder.path().join("figures/fig2_input_spikes.svg").exists());
    // Where some network has Poisson input, the figure says which.
    let evaluations = folder.path().join("evaluations.csv");
    let more = "poissonian,converted,published,poisson,50,200,0.6,1,\n";
    fs::write(&evaluations, read(&evaluations) + more).unwrap();
    let page = read(&build(folder.path()).unwrap().page);
    assert!(page.contains("It is what poissonian sees; tuned sees the recording itself."));
}

/// What judged the epochs is called what it was.
#[test]
fn held_out_recordings_are_not_called_the_test_split() {
    let folder = tempfile::tempdir().unwrap();
    let good = [[90, 30], [20, 60]];
    small_run(
        folder.path(),
        &[("ann", "ann", 0, good, 0.0, 0.0), ("tuned", "finetuned", 4, good, 9.0, 10.0)],
    );
    let page = |judged_on: &[&str]| {
        let mut text =
            "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds,judged_on\n".to_owned();
        for (n, split) in judged_on.iter().enumerate() {
            text += &format!("tuned{n},1,0.5,0.8,0.6,0.7,3,{split}\ntuned{n},2,0.4,0.8,0.5,0.7,3,{split}\n");
        }
        fs::write(folder.path().join("finetune.csv"), text).unwrap();
        read(&build(folder.path()).unwrap().page)
    };
    let held_out = page(&["held-out"]);
    assert!(read(&folder.path().join("figures/fig3_finetune.csv")).contains(",loss,held-out,0.6"));
    assert!(
        held_out.contains("best accuracy on the held-out recordings") && !held_out.contains("test split")
    );
    assert!(held_out.contains("chosen by held-out training recordings"));
    for split in ["test", ""] {
        let test = page(&[split]);
        assert!(
            test.contains("best accuracy on the test split")
                && test.contains("chosen by the test recordings"),
            "{split}"
        );
    }
    let both = page(&["test", "held-out"]);
    assert!(both.contains("best accuracy on the test split or the held-out recordings"));
}

#[test]
fn a_page_is_not_emptied() {
    let folder = tempfile::tempdir().unwrap();
    let check = || escape_report::check(folder.path()).map_err(|e| e.to_string());
    assert!(check().unwrap_err().contains("nothing to report on"));
    fs::write(folder.path().join("evaluations.csv"), "").unwrap();
    assert_eq!(check(), Ok(()));
}

#[test]
fn an_absent_run_is_an_error() {
    let error = build(Path::new("no/such/run")).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
}

#[test]
fn odd_numbers_draw_too() {
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("recording.csv", "contact,sample,value\n0,0,0\n");
    write("input_spikes.csv", "step,contact,sample,spike\n3,0,0,-1\n");
    write(
        "training.csv",
        "network,epoch,train_loss,train_accuracy,test_loss,test_accuracy,seconds\na,1,NaN,0,NaN,0,0\na,2,NaN,0,NaN,0,0\n",
    );
    write(
        "evaluations.csv",
        "network,kind,preset,encoder,timesteps,samples,accuracy,loss,epoch\na,converted,,,1,0,0,NaN,\na,converted,,,4294967295,0,1,NaN,\n",
    );
    let header = "network,preset,timesteps,samples,layer,kind,neurons,weights,macs,analog_input,leak,spikes_per_sample,synaptic_operations_per_sample\n";
    write(
        "activity.csv",
        &format!("{header}a,,1,0,x/../y,conv,64,0,0,true,1,0,0\na,,1,0,z,linear,0,0,0,false,1,0,0\n"),
    );
    write("raster.csv", "network,layer,step,neuron\na,x/../y,0,63\na,x_..\\y,0,63\n");
    write("confusion.csv", "network,actual,predicted,count\na,0,0,0\na,4,1,18446744073709551615\na,4,2,9\n");
    write(
        "energy.csv",
        "model,network,layer,component,picojoules\nm,ann,l,odd,0\nm,a,l,odd,0\nk,ann,l,c,1e-30\nk,a,l,c,1e30\n",
    );
    write("energy_steps.csv", "model,network,step,picojoules\nm,a,0,0\nk,a,0,5\n");
    let summary = build(folder.path()).unwrap();
    well_formed(&read(&summary.page));
    let figures = folder.path().join("figures");
    let tables = folder.path().join("tables");
    let ours = |p: &PathBuf| [&figures, &tables].map(|f| f.as_path()).contains(&p.parent().unwrap());
    assert!(summary.written.iter().all(|p| ours(p) || *p == summary.page));
    assert!(figures.join("fig4_raster_x____y.png").exists());
}

#[test]
fn table_1_reads_well_in_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    synthetic::write(folder.path(), 0.01);
    let text = tables(folder.path()).unwrap().table1.unwrap().to_string();
    let line = |start: &str| {
        text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"))
    };
    let words: Vec<&str> = line("stdb-T28").split_whitespace().collect();
    assert_eq!(
        words[1..8],
        ["fine-tuned", "(published,", "poisson)", "28", "7,835", "0.699", "2.8"],
        "{text}"
    );
    assert!(line("modified").contains("ANN"));
    assert!(!text.contains("study"), "{text}");
    // Activity of `converted` is unknown: its best T stands for it.
    assert!(line("converted").contains(" 300 "), "{text}");
    let widths: BTreeSet<usize> = text.lines().skip(1).map(|l| l.chars().count()).collect();
    assert_eq!(widths.len(), 1, "{text}");
}

#[test]
#[ignore = "writes a full-size run and its report into the folder $ESCAPE_REPORT_RUN, to look at"]
fn look() {
    let folder = std::env::var_os("ESCAPE_REPORT_RUN").expect("ESCAPE_REPORT_RUN names a folder");
    let folder = Path::new(&folder);
    let _ = fs::remove_dir_all(folder);
    synthetic::write(folder, 1.0);
    build(folder).unwrap();
}

/// Every tag is closed in order and every attribute quoted: what XML asks for, which HTML 5 allows.
fn well_formed(text: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = text.strip_prefix("<!DOCTYPE html>").unwrap_or(text);
    while let Some(start) = rest.find('<') {
        assert!(
            !rest[..start].contains('>') || open.last() == Some(&"style"),
            "a bare > before {:.60}",
            &rest[start..]
        );
        let end = rest[start..].find('>').expect("a tag ends") + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap_or_default();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(), "no tag: <{tag}>");
        assert_eq!(tag.matches('"').count() % 2, 0, "an open quote: <{tag}>");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "closed out of order");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert_eq!(open, Vec::<&str>::new(), "left open");
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        rest = &rest[at + 1..];
        let entity = rest.split(';').next().unwrap_or_default();
        assert!(["amp", "lt", "gt", "quot", "apos"].contains(&entity), "a bare &: &{:.20}", rest);
    }
}
