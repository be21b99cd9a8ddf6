extension ClientFiles {
    /// One line per file of the folder `Client`. A test fails when one is missing.
    static var embedded: [(path: String, bytes: [UInt8], mediaType: String)] {
        [
            ("app.js", PackageResources.app_js, "text/javascript; charset=utf-8"),
            ("example.html", PackageResources.example_html, "text/html; charset=utf-8"),
            ("icon.svg", PackageResources.icon_svg, "image/svg+xml"),
            ("lowdose.js", PackageResources.lowdose_js, "text/javascript; charset=utf-8"),
            ("style.css", PackageResources.style_css, "text/css; charset=utf-8"),
            ("tomos.d.ts", PackageResources.tomos_d_ts, "text/plain; charset=utf-8"),
            ("tomos.js", PackageResources.tomos_js, "text/javascript; charset=utf-8"),
            ("views.js", PackageResources.views_js, "text/javascript; charset=utf-8"),
            ("index.html", PackageResources.index_html, "text/html; charset=utf-8"),
        ]
    }
}
