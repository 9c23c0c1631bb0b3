//! Scraping: targets, schedule, relabelling, exposition formats, discovery; yields rows
