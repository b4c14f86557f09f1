"""Colours and shapes of the page. Fonts are the machine's own, so the page needs no network."""

from __future__ import annotations

from gradio.themes import Base, colors, sizes

THEME = Base(
    primary_hue=colors.violet,
    secondary_hue=colors.violet,
    neutral_hue=colors.slate,
    radius_size=sizes.radius_lg,
    spacing_size=sizes.spacing_md,
    text_size=sizes.text_md,
    font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "monospace"],
).set(
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    block_shadow="none",
    block_border_width="1px",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_background_fill_dark="*primary_600",
    button_primary_background_fill_hover_dark="*primary_500",
    button_primary_text_color="white",
)
