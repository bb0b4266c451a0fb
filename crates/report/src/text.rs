//! The embedded font, and numbers in words a reader likes.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef};

/// Regular and bold.
pub(crate) const FILES: [&[u8]; 2] = [
    include_bytes!("../assets/DejaVuSansCondensed-subset.ttf"),
    include_bytes!("../assets/DejaVuSansCondensed-Bold-subset.ttf"),
];

/// The files are part of the program, and a test reads them.
static FONTS: LazyLock<[Option<FontRef<'static>>; 2]> =
    LazyLock::new(|| FILES.map(|file| FontRef::try_from_slice(file).ok()));

/// The font in a weight.
fn font(bold: bool) -> Option<&'static FontRef<'static>> {
    FONTS[usize::from(bold)].as_ref()
}

/// Pixels per font unit at a size in pixels (1 em).
fn scale(font: &FontRef<'static>, size: f64) -> f64 {
    size / f64::from(font.units_per_em().unwrap_or(2048.0))
}

/// From the lowest to the highest point of the font.
pub(crate) fn height(size: f64, bold: bool) -> f64 {
    font(bold).map_or(size, |font| f64::from(font.height_unscaled()) * scale(font, size))
}

/// Each letter with the left edge of its ink.
pub(crate) fn letters(string: &str, size: f64, bold: bool) -> Vec<(char, f64)> {
    let Some(font) = font(bold) else { return Vec::new() };
    let unit = scale(font, size);
    let mut pen = 0.0;
    let place = |c| {
        let id = font.glyph_id(c);
        let left = pen + font.h_side_bearing_unscaled(id);
        pen += font.h_advance_unscaled(id);
        (c, f64::from(left) * unit)
    };
    string.chars().map(place).collect()
}

/// Units per em of a weight.
pub(crate) fn per_em(bold: bool) -> f64 {
    font(bold).and_then(|font| font.units_per_em()).map_or(2048.0, f64::from)
}

/// Ascent and descent of a weight, in its units.
pub(crate) fn extent(bold: bool) -> (f64, f64) {
    font(bold).map_or((0.0, 0.0), |f| (f.ascent_unscaled().into(), f.descent_unscaled().into()))
}

/// A letter's number in the font, and its advance in the font's units.
pub(crate) fn glyph(c: char, bold: bool) -> (u16, f64) {
    font(bold).map_or((0, 0.0), |font| {
        let id = font.glyph_id(c);
        (id.0, font.h_advance_unscaled(id).into())
    })
}

/// Width of a text in pixels.
pub(crate) fn width(string: &str, size: f64, bold: bool) -> f64 {
    let Some(font) = font(bold) else { return 0.0 };
    let units: f32 = string.chars().map(|c| font.h_advance_unscaled(font.glyph_id(c))).sum();
    f64::from(units) * scale(font, size)
}

/// `string` cut to `room` pixels, with an ellipsis if anything was lost.
pub(crate) fn fit(string: &str, room: f64, size: f64, bold: bool) -> String {
    if width(string, size, bold) <= room {
        return string.to_owned();
    }
    let mut cut: Vec<char> = string.chars().collect();
    while cut.pop().is_some() {
        let candidate = format!("{}...", cut.iter().collect::<String>().trim_end());
        if width(&candidate, size, bold) <= room {
            return candidate;
        }
    }
    String::new()
}

/// 358400 as `358k`, 22937600 as `22.9M`: three significant digits at most.
pub(crate) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let size = value.abs();
    if size > 0.0 && size < 1e-3 {
        return format!("{value:.0e}");
    }
    let (unit, suffix) = match size {
        999.5e9.. => (1e12, "T"),
        999.5e6.. => (1e9, "G"),
        999.5e3.. => (1e6, "M"),
        999.5.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{}{suffix}", significant(value / unit, 3))
}

/// So many significant digits, zeros at the end among them.
pub(crate) fn rounded(value: f64, digits: i32) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// So many significant digits, without trailing zeros.
pub(crate) fn significant(value: f64, digits: i32) -> String {
    let text = rounded(value, digits);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A share with the digits that are known of it: the last is of the size of its standard error, of two digits or more.
pub(crate) fn share(value: f64, error: f64) -> String {
    let decimals =
        if error.is_finite() && error > 0.0 { (-error.log10()).ceil().clamp(2.0, 4.0) } else { 2.0 };
    format!("{value:.*}", decimals as usize)
}

/// A whole number with a comma every three digits.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A count that may be an average: grouped, with decimals only below 100.
pub(crate) fn amount(value: f64) -> String {
    if !value.is_finite() {
        "n/a".to_owned()
    } else if value < 100.0 {
        significant(value, 3)
    } else {
        grouped(value.round() as u64)
    }
}

/// Picojoules in the unit that suits them.
pub(crate) fn energy(picojoules: f64) -> String {
    let (scale, unit) = energy_unit(picojoules);
    format!("{} {unit}", significant(picojoules / scale, 3))
}

/// Picojoules in a unit, and its name, for values of that size.
pub(crate) fn energy_unit(picojoules: f64) -> (f64, &'static str) {
    match picojoules.abs() {
        1e9.. => (1e9, "mJ"),
        1e6.. => (1e6, "\u{b5}J"),
        1e3.. => (1e3, "nJ"),
        _ => (1.0, "pJ"),
    }
}

/// Numbers in words, each once: `4,000`, `500 or 4,000`.
pub(crate) fn several<N: Ord>(numbers: impl Iterator<Item = N>, text: impl Fn(N) -> String) -> String {
    let mut numbers: Vec<N> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(text).collect::<Vec<_>>().join(" or ")
}

/// Names in a sentence, so many at most: `a, b and 3 more`.
pub(crate) fn listed(names: &[String], most: usize) -> String {
    let shown = names[..names.len().min(most)].join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A ratio: `51.0x`, `0.42x`.
pub fn ratio(value: f64) -> String {
    if !value.is_finite() {
        "n/a".to_owned()
    } else if value >= 100.0 {
        format!("{value:.0}x")
    } else if value >= 10.0 {
        format!("{value:.1}x")
    } else if value >= 1.0 {
        format!("{value:.2}x")
    } else {
        format!("{}x", rounded(value, 2))
    }
}

/// Letters, digits, `-` and `_` only: part of a file name.
pub(crate) fn slug(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fonts_are_there() {
        for bold in [false, true] {
            let font = font(bold).unwrap();
            for c in (' '..='~')
                .chain("\u{b5}\u{b1}\u{b0}\u{d7}\u{e4}\u{f6}\u{fc}\u{c4}\u{d6}\u{dc}\u{df}\u{2212}".chars())
            {
                assert_ne!(font.glyph_id(c).0, 0, "no glyph for {c}");
            }
        }
        assert!(width("spikes", 12.0, true) > width("spikes", 12.0, false));
        assert!((30.0..45.0).contains(&width("spikes", 12.0, false)));
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(fit("conv1", 100.0, 12.0, false), "conv1");
        let cut = fit("a rather long network name", 80.0, 12.0, false);
        assert!(cut.ends_with("...") && width(&cut, 12.0, false) <= 80.0);
        assert_eq!(fit("conv1", 1.0, 12.0, false), "");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0.0, 3.0, 999.0, 358_400.0, 22_937_600.0, 5_734_400.0].map(short),
            ["0", "3", "999", "358k", "22.9M", "5.73M"]
        );
        assert_eq!([999.7, 999_600.0, 0.001, 1e-5].map(short), ["1k", "1M", "0.001", "1e-5"]);
        assert_eq!([0.00196, 12.0, 100.0].map(|v| significant(v, 2)), ["0.002", "12", "100"]);
        assert_eq!([share(0.77, 0.0298), share(0.7221, 0.0051), share(1.0, 0.0)], ["0.77", "0.722", "1.00"]);
        assert_eq!([1, 1000, 126_157_568].map(grouped), ["1", "1,000", "126,157,568"]);
        assert_eq!([0.4, 2.0, 125.3, 0.0].map(|v| rounded(v, 2)), ["0.40", "2.0", "125", "0"]);
        assert_eq!(
            [51.03, 9.06, 0.4213, 0.00421, 1234.0].map(ratio),
            ["51.0x", "9.06x", "0.42x", "0.0042x", "1234x"]
        );
        assert_eq!([373.3e6, 500.0].map(energy), ["373 \u{b5}J", "500 pJ"]);
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!((listed(&names, 3), listed(&names, 1)), ("a, b, c".to_owned(), "a and 2 more".to_owned()));
        assert_eq!(slug("a b/../c:T=4"), "a_b____c_T_4");
    }
}
