//! Tidy tables to figures and one self-contained page.
