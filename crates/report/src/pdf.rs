//! A scene as a PDF of one page in the size that it has on paper: lines, areas, images, and text that can be searched, set in the
//! embedded font.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::scene::{Anchor, Ink, Item, Scene};
use crate::style::Style;
use crate::text;

/// Objects with a fixed number: catalogue, pages, page, content; then five for each weight of the font.
const FIRST_FONT: usize = 5;
const OBJECTS_A_FONT: usize = 5;
/// Of a circle's quarter as a Bézier curve.
const KAPPA: f64 = 0.552_285;

/// The objects of a file, numbered from 1.
struct Objects(Vec<Vec<u8>>);

impl Objects {
    fn put(&mut self, number: usize, object: impl Into<Vec<u8>>) {
        if self.0.len() < number {
            self.0.resize(number, Vec::new());
        }
        self.0[number - 1] = object.into();
    }
    /// A compressed stream; `entries` are those of its dictionary.
    fn stream(&mut self, number: usize, entries: &str, bytes: &[u8]) -> Result<(), String> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|e| e.to_string())?;
        let length = packed.len();
        let mut object =
            format!("<< {entries} /Filter /FlateDecode /Length {length} >>\nstream\n").into_bytes();
        object.extend(packed);
        object.extend(b"\nendstream");
        self.put(number, object);
        Ok(())
    }
    fn file(&self) -> Vec<u8> {
        let mut file = b"%PDF-1.5\n%\xE2\xE3\xCF\xD3\n".to_vec();
        let mut places = Vec::new();
        for (i, object) in self.0.iter().enumerate() {
            places.push(file.len());
            file.extend(format!("{} 0 obj\n", i + 1).into_bytes());
            file.extend(object);
            file.extend(b"\nendobj\n");
        }
        let start = file.len();
        let mut end = format!("xref\n0 {}\n0000000000 65535 f \n", places.len() + 1);
        for place in &places {
            let _ = writeln!(end, "{place:010} 00000 n ");
        }
        let size = places.len() + 1;
        let _ = write!(end, "trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
        file.extend(end.into_bytes());
        file
    }
}

/// The scene as a file.
pub(crate) fn file(scene: &Scene<'_>) -> Result<Vec<u8>, String> {
    let style = scene.style;
    let (unit, height) = (style.unit_pt(), scene.height * style.unit_pt());
    let width = scene.width * unit;
    let mut objects = Objects(Vec::new());
    let first_image = FIRST_FONT + 2 * OBJECTS_A_FONT;
    let mut images = 0;
    let mut opacities: Vec<f64> = Vec::new();
    // Letters used, by their number in the font.
    let mut used: [BTreeMap<u16, (char, f64)>; 2] = Default::default();
    // The scene's axes point right and down.
    let mut page = format!("{unit:.5} 0 0 {:.5} 0 {height:.3} cm 1 j\n", -unit);
    for item in &scene.items {
        match item {
            Item::Rect { x, y, w, h, ink } => {
                let _ = writeln!(page, "{} rg {x:.2} {y:.2} {w:.2} {h:.2} re f", rgb(style, *ink));
            }
            Item::Line { points, ink, width, dash } => {
                let [on, off] = dash.pattern().unwrap_or_default();
                let dash = if on > 0.0 { format!("[{on} {off}] 0 d") } else { "[] 0 d".to_owned() };
                let _ = write!(page, "{} RG {width:.2} w {dash} ", rgb(style, *ink));
                path(&mut page, points);
                page.push_str("S\n");
            }
            Item::Polygon { points, ink, opacity } => {
                let state = opacities.iter().position(|o| o == opacity).unwrap_or_else(|| {
                    opacities.push(*opacity);
                    opacities.len() - 1
                });
                let _ = write!(page, "q /G{state} gs {} rg ", rgb(style, *ink));
                path(&mut page, points);
                page.push_str("f Q\n");
            }
            Item::Circle { x, y, r, ink } => {
                let _ = write!(page, "{} rg {:.2} {y:.2} m ", rgb(style, *ink), x + r);
                let k = r * KAPPA;
                let quarters = [
                    [(x + r, y + k), (x + k, y + r), (*x, y + r)],
                    [(x - k, y + r), (x - r, y + k), (x - r, *y)],
                    [(x - r, y - k), (x - k, y - r), (*x, y - r)],
                    [(x + k, y - r), (x + r, y - k), (x + r, *y)],
                ];
                for [a, b, c] in quarters {
                    let _ =
                        write!(page, "{:.2} {:.2} {:.2} {:.2} {:.2} {:.2} c ", a.0, a.1, b.0, b.1, c.0, c.1);
                }
                page.push_str("f\n");
            }
            Item::Text { x, y, string, style: kind } => {
                let string = string.replace(char::is_control, " ");
                let shift = match kind.anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
                let left = x - kind.width(&string) * shift;
                let weight = usize::from(kind.bold);
                let _ = write!(
                    page,
                    "BT {} rg /F{weight} {:.3} Tf 1 0 0 -1 {left:.2} {y:.2} Tm <",
                    rgb(style, kind.ink),
                    kind.size
                );
                for c in string.chars() {
                    let (glyph, advance) = text::glyph(c, kind.bold);
                    used[weight].entry(glyph).or_insert((c, advance));
                    let _ = write!(page, "{glyph:04X}");
                }
                page.push_str("> Tj ET\n");
            }
            Item::Image { area, columns, rows, pixels } => {
                let entries = format!(
                    "/Type /XObject /Subtype /Image /Width {columns} /Height {rows} /ColorSpace /DeviceRGB \
                     /BitsPerComponent 8"
                );
                objects.stream(first_image + images, &entries, pixels.as_flattened())?;
                let (w, h, bottom) = (area.w, area.h, area.bottom());
                let _ = writeln!(page, "q {w:.2} 0 0 {:.2} {:.2} {bottom:.2} cm /I{images} Do Q", -h, area.x);
                images += 1;
            }
            Item::MapStart | Item::MapEnd => {}
        }
    }
    objects.put(1, "<< /Type /Catalog /Pages 2 0 R >>");
    objects.put(2, "<< /Type /Pages /Kids [3 0 R] /Count 1 >>");
    let mut resources = String::from("/Font <<");
    for weight in 0..2 {
        let _ = write!(resources, " /F{weight} {} 0 R", FIRST_FONT + weight * OBJECTS_A_FONT);
    }
    resources.push_str(" >> /XObject <<");
    for image in 0..images {
        let _ = write!(resources, " /I{image} {} 0 R", first_image + image);
    }
    resources.push_str(" >> /ExtGState <<");
    for (state, opacity) in opacities.iter().enumerate() {
        let _ = write!(resources, " /G{state} << /ca {opacity} >>");
    }
    let page_object = format!(
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.3} {height:.3}] /Contents 4 0 R /Resources << {resources} >> >> >>"
    );
    objects.put(3, page_object);
    objects.stream(4, "", page.as_bytes())?;
    for (weight, letters) in used.iter().enumerate() {
        font(&mut objects, weight, letters)?;
    }
    Ok(objects.file())
}

fn rgb(style: &Style, ink: Ink) -> String {
    style.rgb(ink).map(|part| format!("{:.3}", f64::from(part) / 255.0)).join(" ")
}

fn path(page: &mut String, points: &[(f64, f64)]) {
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(page, "{x:.2} {y:.2} {} ", if i == 0 { "m" } else { "l" });
    }
}

/// The five objects of a weight: font, its letters' widths, its measures, the file, and what each letter means.
fn font(objects: &mut Objects, weight: usize, letters: &BTreeMap<u16, (char, f64)>) -> Result<(), String> {
    let bold = weight == 1;
    let first = FIRST_FONT + weight * OBJECTS_A_FONT;
    let name = if bold { "ESCAPE+DejaVuSansCondensed-Bold" } else { "ESCAPE+DejaVuSansCondensed" };
    let thousandths = |units: f64| 1000.0 * units / text::per_em(bold);
    let [descendant, descriptor, program, meaning] = [1, 2, 3, 4].map(|i| first + i);
    objects.put(
        first,
        format!(
            "<< /Type /Font /Subtype /Type0 /BaseFont /{name} /Encoding /Identity-H /DescendantFonts [{descendant} 0 R] \
             /ToUnicode {meaning} 0 R >>"
        ),
    );
    let mut widths = String::new();
    let mut meanings = String::new();
    for (glyph, (c, advance)) in letters {
        let _ = write!(widths, "{glyph} [{:.1}] ", thousandths(*advance));
        let mut units = [0; 2];
        let code: String = c.encode_utf16(&mut units).iter().map(|unit| format!("{unit:04X}")).collect();
        let _ = writeln!(meanings, "1 beginbfchar <{glyph:04X}> <{code}> endbfchar");
    }
    objects.put(
        descendant,
        format!(
            "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{name} /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) \
             /Supplement 0 >> /FontDescriptor {descriptor} 0 R /CIDToGIDMap /Identity /W [{widths}] >>"
        ),
    );
    let (ascent, descent) = text::extent(bold);
    let (ascent, descent) = (thousandths(ascent), thousandths(descent));
    objects.put(
        descriptor,
        format!(
            "<< /Type /FontDescriptor /FontName /{name} /Flags 4 /FontBBox [-1000 {descent:.0} 2000 {ascent:.0}] \
             /ItalicAngle 0 /Ascent {ascent:.0} /Descent {descent:.0} /CapHeight 729 /StemV 80 /FontFile2 {program} 0 R >>"
        ),
    );
    let file = text::FILES[weight];
    objects.stream(program, &format!("/Length1 {}", file.len()), file)?;
    let map = format!(
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n/CMapName /Letters def \
         1 begincodespacerange <0000> <FFFF> endcodespacerange\n{meanings}endcmap CMapName currentdict /CMap \
         defineresource pop end end"
    );
    objects.stream(meaning, "", map.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::scene::{Area, Dash};

    fn find(file: &[u8], wanted: &[u8]) -> Option<usize> {
        file.windows(wanted.len()).position(|window| window == wanted)
    }

    #[test]
    fn a_page_has_the_figures_size_and_its_text() {
        let style = Style::default();
        let mut scene = Scene::new(&style, 100.0, "\u{b5}J");
        scene.line(vec![(0.0, 0.0), (10.0, 10.0)], Ink::Layer(1), 1.0, Dash::Dashed);
        scene.polygon(vec![(0.0, 0.0), (9.0, 0.0), (9.0, 9.0)], Ink::Text, 0.25);
        scene.image(Area::new(1.0, 2.0, 3.0, 4.0), 1, 2, vec![[1, 2, 3], [4, 5, 6]]);
        let file = file(&scene).unwrap();
        let plain = String::from_utf8_lossy(&file);
        // 85 mm and 100 units of 7 / 11.5 points.
        assert!(plain.contains("/MediaBox [0 0 240.945 60.870]") && plain.contains("/ca 0.25"), "{plain}");
        // Every object is where the table says.
        let table = find(&file, b"xref\n0 ").unwrap();
        let places: Vec<usize> = plain[plain.find("xref\n0 ").unwrap()..]
            .lines()
            .filter(|line| line.ends_with(" 00000 n "))
            .map(|line| line[..10].parse().unwrap())
            .collect();
        assert_eq!(places.len(), FIRST_FONT + 2 * OBJECTS_A_FONT);
        for (i, place) in places.into_iter().enumerate() {
            assert!(file[place..].starts_with(format!("{} 0 obj", i + 1).as_bytes()), "object {}", i + 1);
        }
        assert!(file.ends_with(format!("startxref\n{table}\n%%EOF\n").as_bytes()));
        // The page's content is text in the embedded font, letter by letter.
        let content = &file[find(&file, b"4 0 obj").unwrap()..];
        let start = find(content, b"stream\n").unwrap() + 7;
        let mut page = String::new();
        flate2::read::ZlibDecoder::new(&content[start..]).read_to_string(&mut page).unwrap();
        let letters: String = "\u{b5}J".chars().map(|c| format!("{:04X}", text::glyph(c, true).0)).collect();
        assert!(page.contains(&format!("<{letters}> Tj")) && page.contains("/I0 Do"), "{page}");
    }
}
