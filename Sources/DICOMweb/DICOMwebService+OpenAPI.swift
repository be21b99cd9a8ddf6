import DICOM
import Foundation

extension DICOMwebService {
    /// The interface as OpenAPI 3.1, from the same list as the capabilities.
    public static func openAPI(version: String) -> String {
        func schema(_ name: String) -> (String, String) {
            // Schema and description.
            switch name {
            case "limit", "offset": ("{\"type\":\"integer\",\"minimum\":0,\"maximum\":100000}", "Page of the results.")
            case "fuzzymatching": ("{\"type\":\"string\",\"enum\":[\"true\",\"false\"]}", "Not supported: answered with a Warning.")
            case "includefield": ("{\"type\":\"string\",\"pattern\":\"^[0-9A-Za-z.]+(,[0-9A-Za-z.]+)*$\"}", "Attributes to return beside the usual ones: keywords or tags (with dots into sequences, commas between several), or all.")
            case "accept": ("{\"type\":\"string\"}", "Media types, before those of the Accept header.")
            case "quality": ("{\"type\":\"integer\",\"minimum\":1,\"maximum\":100}", "Of lossy types; 100 is best.")
            case "viewport": ("{\"type\":\"string\"}", "vw,vh[,sx,sy,sw,sh] (PS3.18 8.3.5.1.3).")
            case "window": ("{\"type\":\"string\"}", "center,width,function with linear, linear-exact or sigmoid.")
            case "annotation": ("{\"type\":\"string\"}", "patient, technique, and of our own: orientation, scale.")
            case "iccprofile": ("{\"type\":\"string\",\"enum\":[\"no\",\"yes\",\"srgb\",\"adobergb\",\"rommrgb\"]}", "no, yes and srgb are supported.")
            case "renderingmethod": ("{\"type\":\"string\",\"enum\":[\"volume_rendered\",\"maximum_ip\",\"minimum_ip\",\"average_ip\"]}", "How samples along a ray become one value.")
            case "orientation": ("{\"type\":\"string\",\"enum\":[\"a\",\"p\",\"r\",\"l\",\"h\",\"f\"]}", "Side of the patient on which the camera stands.")
            case "viewpointposition", "viewpointlookat", "viewpointup": ("{\"type\":\"string\"}", "Three decimals, mm in patient coordinates.")
            case "mprslab": ("{\"type\":\"number\",\"exclusiveMinimum\":0}", "Thickness in mm.")
            case "swivelrange": ("{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":360}", "Degrees.")
            case "animationstepsize": ("{\"type\":\"number\",\"exclusiveMinimum\":0}", "Degrees, or mm along a curve.")
            case "animationrate": ("{\"type\":\"integer\",\"minimum\":1,\"maximum\":100}", "Steps per second.")
            case "renderedvolumetricmetadata": ("{\"type\":\"string\",\"enum\":[\"yes\"]}", "The Rendered Volume Response Module instead of a picture.")
            case "preset": ("{\"type\":\"string\",\"enum\":[\"bone\",\"lung\",\"soft-tissue\",\"vessels\"]}", "Of our own: transfer function of volume_rendered.")
            case "volumeinputreference": ("{\"type\":\"string\"}", "SOP Instance UID, and a frame number, of the volume to render.")
            case "volumetriccurvepoint": ("{\"type\":\"string\"}", "Points of the curve along which the reformation moves.")
            default: ("{\"type\":\"string\"}", "")
            }
        }
        var paths: [(String, [(String, String)])] = []
        for c in capabilityList {
            var parameters: [String] = []
            for match in c.path.matches(of: /\{([a-z]+)\}/) {
                let name = String(match.1)
                let pattern = name == "frames" ? "^[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*$" : name == "element" ? "^[0-9A-F]{8}$" : "^[0-9]+(\\\\.[0-9]+)*$"
                parameters.append("{\"name\":\"\(name)\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\",\"pattern\":\"\(pattern)\",\"minLength\":1,\"maxLength\":64}}")
            }
            for name in c.parameters {
                let (schema, text) = schema(name)
                parameters.append("{\"name\":\"\(name)\",\"in\":\"query\",\"required\":false,\"description\":\(jsonString(text)),\"schema\":\(schema)}")
            }
            var bodies: [String] = []
            for type in c.types { bodies.append("\(jsonString(type.split(separator: ";").first.map(String.init) ?? type)):{}") }
            bodies = Array(Set(bodies)).sorted()
            let isPicture = c.path.contains("rendered") || c.path.hasSuffix("thumbnail")
            var content = bodies
            if isPicture { content.append("\"multipart/related\":{}") }
            var answers = ["\"200\":{\"description\":\"The answer.\",\"content\":{\(Array(Set(content)).sorted().joined(separator: ","))}}"]
            func problem(_ status: Int, _ text: String) { answers.append("\"\(status)\":{\"description\":\(jsonString(text)),\"content\":{\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}") }
            if c.method == "POST" {
                answers.append("\"202\":{\"description\":\"Some instances are stored.\",\"content\":{\(bodies.joined(separator: ","))}}")
                answers.append("\"409\":{\"description\":\"Nothing is stored: conflicts.\",\"content\":{\(bodies.joined(separator: ","))}}")
                answers.append("\"400\":{\"description\":\"Nothing is stored.\",\"content\":{\(bodies.joined(separator: ",")),\"application/problem+json\":{}}}")
                problem(415, "The payload's media type is not supported."); problem(413, "Metadata and bulk data apart are longer than is held in memory.")
            } else {
                problem(400, "A parameter or the address is wrong.")
                if c.id.hasPrefix("Search") { answers.append("\"204\":{\"description\":\"Nothing matches.\"}"); problem(413, "Too broad.") }
                else {
                    problem(404, "The target is not stored here.")
                    answers.append("\"206\":{\"description\":\"A range of bytes.\"}"); answers.append("\"304\":{\"description\":\"Not modified.\"}")
                    problem(413, "More than can be rendered at once."); problem(416, "The range is outside."); problem(501, "The SOP class cannot be rendered."); problem(502, "The upstream archive failed.")
                }
                problem(503, "Overload; try again later.")
            }
            problem(401, "A bearer token is needed."); problem(403, "The host name is not allowed."); problem(406, "No acceptable media type.")
            problem(405, "The method is not allowed."); problem(414, "The address is too long.")
            let payload = c.method == "POST" ? ",\"requestBody\":{\"required\":true,\"description\":\(jsonString(Self.storeText)),\"content\":{\(Self.storeBodies)}}" : ""
            let operation = "\"\(c.method.lowercased())\":{\"operationId\":\"\(c.id)\",\"summary\":\(jsonString(words(c.id))),\"parameters\":[\(parameters.joined(separator: ","))]\(payload),\"responses\":{\(answers.joined(separator: ","))}}"
            let path = "/dicomweb/" + c.path
            if let i = paths.firstIndex(where: { $0.0 == path }) { paths[i].1.append((c.method, operation)) } else { paths.append((path, [(c.method, operation)])) }
        }
        paths += ownPaths()
        let list = paths.map { "\(jsonString($0.0)):{\($0.1.map(\.1).joined(separator: ","))}" }.joined(separator: ",\n")
        return """
            {"openapi":"3.1.0","info":{"title":"Tomos DICOMweb","version":\(jsonString(version)),"description":"DICOMweb (DICOM PS3.18) with Rendered Volume resources. Conformance.md states the choices the standard leaves open.","license":{"name":"Apache-2.0","identifier":"Apache-2.0"}},
            "servers":[{"url":"/"}],"paths":{\(list)},
            "components":{"schemas":{\(modelSchemas),"Problem":{"type":"object","required":["type","title","status","code","detail"],"properties":{"type":{"type":"string"},"title":{"type":"string"},"status":{"type":"integer"},"code":{"type":"string"},"detail":{"type":"string"}}}},"securitySchemes":{"bearer":{"type":"http","scheme":"bearer"}}},"security":[{},{"bearer":[]}]}
            """
    }

    private static let storeText = "One object, or a multipart of objects; or a multipart of metadata (DICOM JSON, or the XML of the Native DICOM Model) followed by the bulk data that it names by BulkDataURI, each a part with that Content-Location: application/octet-stream, an encoded image type of PS3.18 8.7.3.5, image/png or image/gif."

    private static let storeBodies: String = {
        let binary = "{\"type\":\"string\",\"format\":\"binary\"}"
        func multipart(_ type: String, _ first: String) -> String {
            "\(jsonString("multipart/related; type=\"\(type)\"")):{\"schema\":{\"type\":\"object\",\"required\":[\"metadata\"],\"properties\":{\"metadata\":\(first),\"bulk\":{\"type\":\"array\",\"items\":\(binary)}}},"
                + "\"encoding\":{\"metadata\":{\"contentType\":\"\(type)\"},\"bulk\":{\"contentType\":\"application/octet-stream, image/jpeg, image/jls, image/jp2, image/jpx, image/dicom-rle, image/jphc, image/jxl, video/mpeg, video/mp4, image/png, image/gif\",\"headers\":{\"Content-Location\":{\"required\":true,\"schema\":{\"type\":\"string\"}}}}}}"
        }
        return "\"application/dicom\":{\"schema\":\(binary)},\"multipart/related\":{\"schema\":\(binary)},"
            + multipart("application/dicom+json", "{\"$ref\":\"#/components/schemas/DICOMJSON\"}") + "," + multipart("application/dicom+xml", "{\"$ref\":\"#/components/schemas/DICOMXML\"}")
    }()

    /// DICOM JSON (PS3.18 Annex F) and the XML of the Native DICOM Model (PS3.19 A.1).
    private static let modelSchemas = #"""
        "DICOMJSON":{"type":"array","minItems":1,"description":"DICOM JSON (PS3.18 Annex F).","items":{"$ref":"#/components/schemas/DICOMDataSet"}},
        "DICOMDataSet":{"type":"object","additionalProperties":false,"patternProperties":{"^[0-9A-F]{8}$":{"type":"object","required":["vr"],"properties":{"vr":{"type":"string","pattern":"^[A-Z]{2}$"},"Value":{"type":"array"},"BulkDataURI":{"type":"string"},"InlineBinary":{"type":"string"}}}}},
        "DICOMXML":{"type":"string","description":"A NativeDicomModel document (PS3.19 A.1)."}
        """#

    /// What stands beside the tree of the capabilities: WADO-URI, saved views, and the capabilities themselves.
    private static func ownPaths() -> [(String, [(String, String)])] {
        func answers(_ ok: [String], _ others: [(Int, String)]) -> String {
            (["\"200\":{\"description\":\"The answer.\",\"content\":{\(ok.map { "\(jsonString($0)):{}" }.joined(separator: ","))}}"] + others.map {
                [204, 206, 304].contains($0.0) ? "\"\($0.0)\":{\"description\":\(jsonString($0.1))}"
                    : "\"\($0.0)\":{\"description\":\(jsonString($0.1)),\"content\":{\"application/problem+json\":{\"schema\":{\"$ref\":\"#/components/schemas/Problem\"}}}}"
            }).joined(separator: ",")
        }
        func parameter(_ name: String, _ schema: String, _ text: String, isRequired: Bool = false) -> String {
            "{\"name\":\"\(name)\",\"in\":\"query\",\"required\":\(isRequired),\"description\":\(jsonString(text)),\"schema\":\(schema)}"
        }
        let guarded = [(401, "A bearer token is needed."), (403, "The host name is not allowed."), (405, "The method is not allowed."), (414, "The address is too long.")]
        let uid = "{\"type\":\"string\",\"pattern\":\"^[0-9]+(\\\\.[0-9]+)*$\",\"maxLength\":64}", text = "{\"type\":\"string\"}"
        let side = "{\"type\":\"integer\",\"minimum\":1,\"maximum\":4096}"
        let uri = [
            parameter("requestType", "{\"type\":\"string\",\"enum\":[\"WADO\"]}", "WADO.", isRequired: true), parameter("studyUID", uid, "The study.", isRequired: true),
            parameter("seriesUID", uid, "The series.", isRequired: true), parameter("objectUID", uid, "The instance.", isRequired: true),
            parameter("contentType", text, "application/dicom or an image type."), parameter("transferSyntax", text, "With application/dicom."),
            parameter("anonymize", "{\"type\":\"string\",\"enum\":[\"yes\"]}", "Not supported."), parameter("frameNumber", "{\"type\":\"integer\",\"minimum\":1}", "Of a multi-frame image."),
            parameter("rows", side, "Greatest height."), parameter("columns", side, "Greatest width."), parameter("region", text, "xmin,ymin,xmax,ymax from 0 to 1."),
            parameter("windowCenter", "{\"type\":\"number\"}", "With windowWidth."), parameter("windowWidth", "{\"type\":\"number\",\"minimum\":1}", "With windowCenter."),
            parameter("imageQuality", "{\"type\":\"integer\",\"minimum\":1,\"maximum\":100}", "Of lossy types."), parameter("annotation", text, "patient, technique."),
            parameter("presentationUID", uid, "Grayscale softcopy state to show the image with."), parameter("presentationSeriesUID", uid, "Its series."),
        ]
        let states = [
            parameter("kind", "{\"type\":\"string\",\"enum\":[\(PresentationState.Kind.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ","))]}", "What becomes of the view."),
            parameter("label", "{\"type\":\"string\",\"minLength\":1,\"maxLength\":64}", "Name of the view: at most 64 bytes in UTF-8."),
        ]
        let body = "{\"required\":true,\"content\":{\"application/json\":{\"schema\":{\"type\":\"object\",\"required\":[\"scene\",\"size\"],\"properties\":{\"scene\":{\"type\":\"object\"},\"size\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":4096},\"minItems\":2,\"maxItems\":2}}}}}}"
        let beyond = [(400, "The study is no UID."), (503, "The archive behind this one did not answer.")] + guarded
        return [
            ("/api/beyond", [("GET", "\"get\":{\"operationId\":\"ListStudiesBeyond\",\"summary\":\"Studies that only the upstream archive has, or has more of\",\"parameters\":[\(parameter("text", text, "A part of the patient's name, or of the ID."))],\"responses\":{\(answers(["application/json"], beyond))}}")]),
            ("/api/beyond/{study}", [("GET", "\"get\":{\"operationId\":\"ListSeriesBeyond\",\"summary\":\"Series of a study that only the upstream archive has\",\"parameters\":[{\"name\":\"study\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\",\"pattern\":\"^[0-9]+(\\\\.[0-9]+)*$\",\"minLength\":1,\"maxLength\":64}}],\"responses\":{\(answers(["application/json"], beyond))}}")]),
            ("/dicomweb", [("OPTIONS", "\"options\":{\"operationId\":\"RetrieveCapabilities\",\"summary\":\"Retrieve capabilities\",\"responses\":{\(answers(["application/vnd.sun.wadl+xml", "application/json"], [(406, "No acceptable media type.")] + guarded))}}")]),
            ("/dicomweb/states", [("POST", "\"post\":{\"operationId\":\"SaveState\",\"summary\":\"Save a view as a DICOM object of its study\",\"parameters\":[\(states.joined(separator: ","))],\"requestBody\":\(body),\"responses\":{\(answers(["application/dicom+json", "application/dicom+xml"], [(400, "The scene or a parameter is wrong."), (404, "What the scene shows is not stored here."), (406, "No acceptable media type."), (409, "It conflicts with what is stored."), (413, "The scene is too long."), (422, "The scene has no counterpart in DICOM."), (502, "The upstream archive failed."), (503, "Overload; try again later.")] + guarded))}}")]),
            ("/wado", [("GET", "\"get\":{\"operationId\":\"RetrieveByURI\",\"summary\":\"WADO-URI\",\"parameters\":[\(uri.joined(separator: ","))],\"responses\":{\(answers(["image/jpeg", "image/png", "image/gif", "image/webp", "application/dicom"], [(206, "A range of bytes."), (304, "Not modified."), (400, "A parameter is wrong."), (404, "The object is not stored here."), (406, "It is no image, or no media type is acceptable."), (416, "The range is outside."), (501, "Not supported."), (502, "The upstream archive failed."), (503, "Overload; try again later.")] + guarded))}}")]),
        ]
    }

    private static func words(_ id: String) -> String {
        id.reduce(into: "") { text, c in
            if c.isUppercase, let last = text.last, last.isLowercase { text += " " }
            text.append(c)
        }
    }
}
