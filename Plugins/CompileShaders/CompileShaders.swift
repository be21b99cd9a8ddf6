import Foundation
import PackagePlugin

/// Compiles the shaders of a target's folder into a Swift file of it (scripts/compile-shaders.sh), whenever one of its sources has changed.
@main struct CompileShaders: BuildToolPlugin {
    func createBuildCommands(context: PluginContext, target: any Target) throws -> [Command] {
        let script = context.package.directoryURL.appending(path: "scripts/compile-shaders.sh")
        let folder = target.directoryURL, output = context.pluginWorkDirectoryURL.appending(path: "Compiled.swift")
        let sources = try [folder, folder.appending(path: "include")].flatMap { try FileManager.default.contentsOfDirectory(at: $0, includingPropertiesForKeys: nil) }
            .filter { ["comp", "h"].contains($0.pathExtension) }
        return [.buildCommand(displayName: "Compiling shaders", executable: URL(filePath: "/bin/sh"), arguments: [script.path, output.path],
                              inputFiles: [script] + sources.sorted { $0.path < $1.path }, outputFiles: [output])]
    }
}
