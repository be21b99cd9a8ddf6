import DICOM
import Foundation

extension DICOMwebService {
    /// Retrieve Capabilities (8.9): the tree of resources as WADL or JSON.
    func capabilities(_ request: WebRequest) throws -> WebResponse {
        let accepted = try request.header("accept") == nil ? [MediaType("*/*")] : request.accepted()
        for range in accepted {
            if range.covers("application/vnd.sun.wadl+xml") {
                return WebResponse(200, type: "application/vnd.sun.wadl+xml", Array(Self.wadl(request.base).utf8), headers: [("allow", "GET, HEAD, POST, OPTIONS")])
            }
            if range.covers("application/json") {
                return WebResponse(200, type: "application/json", Array(Self.capabilitiesJSON(request.base).utf8), headers: [("allow", "GET, HEAD, POST, OPTIONS")])
            }
        }
        throw WebError.notAcceptable
    }

    struct Capability {
        var path: String, method: String, id: String
        var parameters: [String]
        var types: [String]
    }

    static let capabilityList: [Capability] = {
        let searches = ["includefield", "limit", "offset", "fuzzymatching"]
        let dicom = ["multipart/related; type=\"application/dicom\"", "application/dicom", "multipart/related; type=\"application/octet-stream\""]
        let metadata = ["application/dicom+json", "multipart/related; type=\"application/dicom+xml\""]
        let pixels = ["multipart/related; type=\"application/octet-stream\"", "application/octet-stream", "image/jls", "image/jp2", "image/jpeg", "image/jphc", "image/dicom-rle"]
        let pictures = ["image/jpeg", "image/png", "image/gif", "image/webp"]
        let shared = ["accept", "annotation", "quality", "viewport", "window", "iccprofile"]
        let volume = ["volumeinputreference", "renderingmethod", "orientation", "viewpointposition", "viewpointlookat", "viewpointup", "animationstepsize", "animationrate", "renderedvolumetricmetadata"]
        var list = [
            Capability(path: "studies", method: "GET", id: "SearchForStudies", parameters: searches, types: metadata),
            Capability(path: "studies", method: "POST", id: "StoreInstances", parameters: [], types: ["application/dicom+json", "application/dicom+xml"]),
            Capability(path: "studies/{study}", method: "POST", id: "StoreStudyInstances", parameters: [], types: ["application/dicom+json", "application/dicom+xml"]),
            Capability(path: "series", method: "GET", id: "SearchForSeries", parameters: searches, types: metadata),
            Capability(path: "instances", method: "GET", id: "SearchForInstances", parameters: searches, types: metadata),
            Capability(path: "studies/{study}/series", method: "GET", id: "SearchForStudySeries", parameters: searches, types: metadata),
            Capability(path: "studies/{study}/instances", method: "GET", id: "SearchForStudyInstances", parameters: searches, types: metadata),
            Capability(path: "studies/{study}/series/{series}/instances", method: "GET", id: "SearchForStudySeriesInstances", parameters: searches, types: metadata),
        ]
        let levels = [("Study", "studies/{study}"), ("Series", "studies/{study}/series/{series}"), ("Instance", "studies/{study}/series/{series}/instances/{instance}")]
        for (name, path) in levels {
            list.append(Capability(path: path, method: "GET", id: "Retrieve\(name)", parameters: ["accept"], types: dicom))
            list.append(Capability(path: path + "/metadata", method: "GET", id: "Retrieve\(name)Metadata", parameters: ["accept"], types: metadata))
            list.append(Capability(path: path + "/pixeldata", method: "GET", id: "Retrieve\(name)PixelData", parameters: ["accept"], types: pixels))
            list.append(Capability(path: path + "/bulkdata", method: "GET", id: "Retrieve\(name)BulkData", parameters: ["accept"], types: pixels))
        }
        let instance = levels[2].1
        list.append(Capability(path: instance + "/bulkdata/{element}", method: "GET", id: "RetrieveBulkData", parameters: ["accept"], types: pixels))
        list.append(Capability(path: instance + "/frames/{frames}", method: "GET", id: "RetrieveFrames", parameters: ["accept"], types: pixels))
        for (name, path) in levels + [("Frames", instance + "/frames/{frames}")] {
            list.append(Capability(path: path + "/rendered", method: "GET", id: "RetrieveRendered\(name)", parameters: shared, types: pictures))
            list.append(Capability(path: path + "/thumbnail", method: "GET", id: "Retrieve\(name)Thumbnail", parameters: ["accept", "viewport", "quality", "window"], types: pictures))
            list.append(Capability(path: path + "/renderedmpr", method: "GET", id: "RetrieveRenderedMPRVolume\(name)", parameters: shared + volume + ["mprslab", "volumetriccurvepoint"], types: pictures + ["video/mp4", "application/dicom+json", "application/dicom+xml"]))
            list.append(Capability(path: path + "/rendered3d", method: "GET", id: "RetrieveRendered3DVolume\(name)", parameters: shared + volume + ["swivelrange", "preset"], types: pictures + ["video/mp4", "application/dicom+json", "application/dicom+xml"]))
        }
        return list
    }()

    private static func capabilitiesJSON(_ base: String) -> String {
        let entries = capabilityList.map { c in
            "{\"path\":\(jsonString(c.path)),\"method\":\"\(c.method)\",\"id\":\(jsonString(c.id)),\"parameters\":[\(c.parameters.map(jsonString).joined(separator: ","))],\"mediaTypes\":[\(c.types.map(jsonString).joined(separator: ","))]}"
        }
        return "{\"base\":\(jsonString(base)),\"charset\":[\"utf-8\"],\"resources\":[\(entries.joined(separator: ","))]}"
    }

    /// A tree of `resource` elements, one for each segment.
    private static func wadl(_ base: String) -> String {
        final class Node { var children: [(String, Node)] = []; var methods: [Capability] = [] }
        let root = Node()
        for c in capabilityList {
            var node = root
            for segment in c.path.split(separator: "/").map(String.init) {
                if let known = node.children.first(where: { $0.0 == segment }) { node = known.1 } else { let next = Node(); node.children.append((segment, next)); node = next }
            }
            node.methods.append(c)
        }
        func escape(_ s: String) -> String { s.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "\"", with: "&quot;") }
        func text(_ node: Node) -> String {
            var out = ""
            for c in node.methods {
                let parameters = c.parameters.map { "<param name=\"\($0)\" style=\"query\"/>" }.joined()
                let answers = c.types.map { "<representation mediaType=\"\(escape($0))\"/>" }.joined()
                let payload = c.method == "POST" ? "<representation mediaType=\"multipart/related; type=&quot;application/dicom&quot;\"/>" : ""
                out += "<method name=\"\(c.method)\" id=\"\(c.id)\"><request>\(parameters)\(payload)</request><response status=\"200\">\(answers)</response></method>"
            }
            for (name, child) in node.children {
                out += "<resource path=\"\(name)\">\(name.hasPrefix("{") ? "<param name=\"\(name.dropFirst().dropLast())\" style=\"template\"/>" : "")\(text(child))</resource>"
            }
            return out
        }
        return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<application xmlns=\"http://wadl.dev.java.net/2009/02\"><resources base=\"\(escape(base))\">\(text(root))</resources></application>"
    }
}
